"""Values as people and models write them: taken where they have one meaning, else refused with one that would do."""

from pathlib import Path
from typing import Any

import pytest

from ..serving import connected, picture, settings_for
from .test_app import text_of

pytestmark = pytest.mark.usefixtures("decoded_here")

WAYS: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    (
        {"zoom": 1, "aspect_ratio": "16:9"},
        [{"aspect_ratio": one} for one in ("16x9", "16/9", " 16 : 9 ", "\uff11\uff16\uff1a9", "1920\u00d71080")]
        + [{"aspect_ratio": one} for one in ("1.78", 1.7777777777777777, "`16:9`", "1.78:1", "16 by 9", [16, 9])],
    ),
    (
        {"zoom": 1.5},
        [
            {"zoom": one}
            for one in ("1.5", "1.5x", "x1.5", "150%", "150 percent", "\u00d71.5", "1,5", "\uff11.5", '"1.5"')
        ]
        + [{"zoom": 1.5, **one} for one in ({"provider": "`Local`"}, {"repeat": "False"}, {"wait_seconds": "9 s"})],
    ),
    (
        {"zoom": 1.5, "sides": ["left", "top"]},
        [
            {"sides": one}
            for one in ("top, left", ["Top", "LEFT", "left"], "left and top", '["left", "top"]', "upper, west")
        ],
    ),
    ({"zoom": 1.5, "sides": ["left", "right"]}, [{"sides": one} for one in ("horizontal", "left+right")]),
    ({"zoom": 1.5}, [{"sides": one} for one in ("all", [], "", ["bottom", "top", "right", "left"], "all sides")]),
    (
        {"zoom": 1.5, "provider_options": {"format": "jpeg", "quality": "fast", "seed": 7}},
        [
            {"zoom": 1.5, "provider_options": one}
            for one in (
                {"format": "jpg", "quality": "FAST", "seed": "7"},
                {"format": "image/jpeg", "quality": " Fast", "seed": 7.0},
                '{"format": "JPEG", "quality": "fast", "seed": 7, "variants": "1"}',
            )
        ],
    ),
]


async def test_every_way_to_write_a_value_is_the_same_order(tmp_path: Path) -> None:
    source = {"image": str(picture(tmp_path))}
    async with connected(settings_for(tmp_path)) as client:
        for plain, written in WAYS:
            first = (await client.call_tool("outpaint", {**source, **plain})).structured_content
            for one in written:
                again = await client.call_tool("outpaint", {**source, "zoom": plain["zoom"], **one})
                assert not again.is_error, (one, text_of(again))
                assert again.structured_content["id"] == first["id"], one


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"aspect_ratio": "landscape"}, "width:height, such as 16:9"),
        ({"aspect_ratio": "16,9"}, "such as 16:9"),
        ({"aspect_ratio": "16.9"}, "such as 16:9"),
        ({"aspect_ratio": "0:9"}, "such as 16:9"),
        ({"aspect_ratio": 1920}, "such as 16:9"),
        ({"zoom": "big"}, "a number from 1 to 2, such as 1.5"),
        ({"zoom": True}, "a number from 1 to 2, such as 1.5"),
        ({"zoom": "1,500"}, "a number from 1 to 2, such as 1.5"),
        ({"zoom": 4}, "extend the result again by its task_id: zoom 2, then 2."),
        ({"zoom": "3x"}, "extend the result again by its task_id: zoom 2, then 1.5."),
        ({"zoom": 150}, "For 150 % give 1.5."),
        ({"zoom": 0.5}, "give 2."),
        ({"image_index": "second"}, "a whole number from 1 to 4, such as 1"),
        ({"image_index": 1.5}, "a whole number from 1 to 4, such as 1"),
        ({"sides": "inside"}, 'sides must be a list of left, right, top or bottom, such as ["left"].'),
        ({"speed": "quick"}, "relax, fast or turbo"),
        ({"repeat": "maybe"}, "true or false"),
        ({"wait_seconds": 60}, "a number from 0 to 45, such as 25"),
        ({"webhook_events": "done"}, 'such as ["completed"]'),
        ({"provider_options": "seed=7"}, 'such as {"seed": 7}'),
        ({"provider_options": {"format": "gif"}}, "format (png, jpeg, webp)"),
        ({"prompt": ["a", "lake"]}, "prompt must be text."),
        # Unknown arguments, each with the argument that there is instead.
        ({"direction": "left"}, 'sides says where the new area lies, such as ["left"]'),
        ({"expandLeft": 200}, 'sides says where the new area lies, such as ["left"]'),
        ({"width": 1920, "height": 1080}, "'width' and 'height'. zoom and aspect_ratio set the size"),
        ({"seed": 5}, "goes into provider_options"),
        ({"n": 2}, "goes into provider_options"),
        ({"image_url": "https://example.com/a.png"}, "image is the URL, path or data: URI"),
        ({"aspectRatio": "16:9"}, "Write aspect_ratio."),
        ({"promt": "a lake"}, "Is prompt meant?"),
        ({"zoom_level": 2}, "Is zoom meant?"),
    ],
)
async def test_a_value_or_an_argument_that_cannot_be_meant_is_refused_with_one_that_would_do(
    tmp_path: Path, arguments: dict[str, Any], told: str
) -> None:
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": str(picture(tmp_path)), **arguments})
    assert text_of(result).startswith("[invalid_request] ")
    assert told in text_of(result)
    for parsers in ("Input should", "pattern", "parse", "valid ", "^"):
        assert parsers not in text_of(result)


async def test_a_hint_names_only_arguments_of_its_tool(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        asked = await client.call_tool("get_task", {"id": "op-x", "seed": 1})
        listed = await client.call_tool("list_providers", {"image_url": "x"})
    assert "The argument task_id is missing." in text_of(asked)
    assert "There are no arguments 'id' and 'seed'. task_id is the task" in text_of(asked)
    assert "provider_options" not in text_of(asked)
    assert text_of(listed).startswith("[invalid_request] There is no argument 'image_url': the tool has none.")
