"""The prompts of a host's menu: what they have the model do is done here, and what is wrong with them is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, TextContent

from outpaint_mcp.bootstrap import create_server
from outpaint_mcp.domain.front import Front

from ..serving import ERAS, connected, picture, settings_for
from .test_app import text_of

pytestmark = pytest.mark.usefixtures("decoded_here")


async def message_of(client: Client, name: str, /, **arguments: str) -> str:
    (message,) = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def order_of(client: Client, name: str, /, **arguments: str) -> dict[str, Any]:
    """The arguments with which the prompt has the model call `outpaint`."""
    (line,) = [line for line in (await message_of(client, name, **arguments)).splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("front", [Front.STDIO, Front.HTTP])
async def test_each_prompt_has_few_described_arguments(tmp_path: Path, era: str, front: Front) -> None:
    async with Client(create_server(settings_for(tmp_path), front=front), mode=era) as client:
        prompts = (await client.list_prompts()).prompts
    required = {one.name: [argument.name for argument in one.arguments or () if argument.required] for one in prompts}
    assert required == {
        "zoom_out": ["image"],
        "make_square": ["image"],
        "widescreen": ["image"],
        "add_space": ["image", "sides"],
    }
    for one in prompts:
        arguments = one.arguments or []
        assert one.title
        assert one.description
        assert len(arguments) <= 5
        assert all(argument.description for argument in arguments)
        assert ("file path" in (arguments[0].description or "")) is (front is Front.STDIO)


async def test_what_a_prompt_has_the_model_order_is_what_its_name_says(tmp_path: Path) -> None:
    source = str(picture(tmp_path))
    cases: list[tuple[str, dict[str, str], tuple[int, int]]] = [
        ("zoom_out", {}, (96, 64)),
        ("zoom_out", {"zoom": "150%", "provider": "Local", "prompt": ""}, (72, 48)),
        ("make_square", {}, (48, 48)),
        ("widescreen", {"aspect_ratio": "2:1"}, (64, 32)),
        ("add_space", {"sides": "left"}, (72, 32)),
        ("add_space", {"sides": "top,bottom", "amount": "25 %"}, (48, 40)),
        ("add_space", {"sides": "all", "amount": "100"}, (96, 64)),
    ]
    settings = settings_for(tmp_path)
    async with connected(settings) as client, connected(settings, era="legacy") as older:
        for prompt, arguments, size in cases:
            order = await order_of(client, prompt, image=source, **arguments)
            assert await order_of(older, prompt, image=source, **arguments) == order
            task = (await client.call_tool("outpaint", order)).structured_content
            (image,) = task["images"]
            assert (image["width"], image["height"]) == size, order
        for one in (client, older):
            again = await order_of(one, "make_square", image=f"outpaint://tasks/{task['id']}/images/1")
            assert again == {"task_id": task["id"], "image_index": 1, "zoom": 1, "aspect_ratio": "1:1"}
            result = await one.call_tool("outpaint", again)
            assert not result.is_error, text_of(result)


async def test_a_prompt_has_the_model_wait_and_order_nothing_further(tmp_path: Path) -> None:
    painted = 'a {red} "lake"\nwith reeds'
    async with connected(settings_for(tmp_path)) as client:
        message = await message_of(
            client, "widescreen", image="https://example.com/a.png", provider="fal", prompt=painted
        )
        order = await order_of(client, "widescreen", image="https://example.com/a.png", provider="fal", prompt=painted)
    assert order == {
        "image": "https://example.com/a.png",
        "aspect_ratio": "16:9",
        "provider": "fal",
        "prompt": painted,
    }
    for said in ("outpaint once", "get_task", "until the task is final", "do not set repeat", "let me decide"):
        assert said in message


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("prompt", "arguments", "told"),
    [
        ("anything", {"image": "a.png"}, "The prompts are zoom_out, make_square, widescreen, add_space."),
        ("zoom_out", {}, "image is missing."),
        ("zoom_out", {"image": " "}, "image is missing."),
        ("add_space", {"image": "a.png"}, "sides is missing."),
        ("add_space", {}, "image and sides are missing."),
        ("make_square", {"image": "a.png", "zoom": "2"}, "The arguments are image, provider, prompt."),
        ("zoom_out", {"image": "a.png", "zoom": "3"}, "zoom must be a number from 1 to 2"),
        ("widescreen", {"image": "a.png", "aspect_ratio": "landscape"}, "aspect_ratio must be width:height"),
        ("add_space", {"image": "a.png", "sides": "inside"}, "sides must be a list of left, right, top or bottom"),
        ("add_space", {"image": "a.png", "sides": "left", "amount": "1.5"}, "percent from 5 to 100"),
        ("add_space", {"image": "a.png", "sides": "left", "amount": "2"}, "percent from 5 to 100"),
        ("zoom_out", {"image": "data:image/png;base64," + "A" * 4000}, "2048 characters"),
    ],
)
async def test_what_is_wrong_with_a_prompt_is_a_protocol_error_that_says_so(
    tmp_path: Path, era: str, prompt: str, arguments: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(settings_for(tmp_path), era=era) as client:
        with pytest.raises(MCPError) as refused:
            await client.get_prompt(prompt, arguments)
    assert refused.value.error.code == INVALID_PARAMS
    assert refused.value.error.message.startswith("[invalid_request] ")
    assert told in refused.value.error.message
    assert not [record for record in caplog.records if record.exc_info]
