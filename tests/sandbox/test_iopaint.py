"""IOPaint in the sandbox, held against the answers of the real one."""

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings

ROUTE = "/api/v1/inpaint"


def picture(size: tuple[int, int] = (40, 32), kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def mask(size: tuple[int, int] = (40, 32)) -> str:
    """White but for the right half."""
    covered = np.full(size[::-1], 255, np.uint8)
    covered[:, size[0] // 2 :] = 0
    buffer = io.BytesIO()
    Image.fromarray(covered).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def client(connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return connect(Sandbox(SandboxSettings(seconds_per_state=0, painter=PlainPainter())), "iopaint")


@pytest.fixture
def erasing(connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    settings = SandboxSettings(seconds_per_state=0, painter=PlainPainter(), iopaint_model="lama")
    return connect(Sandbox(settings), "iopaint")


async def painted(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    return await client.post(ROUTE, json={"image": picture(), "mask": mask(), **changes})


async def test_the_answer_has_the_images_format_and_size_and_names_the_seed(client: httpx2.AsyncClient) -> None:
    for kind, mime_type in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")):
        answer = await painted(client, image=picture(kind=kind), nonsense=1)
        assert (answer.headers["content-type"], answer.headers["x-seed"]) == (mime_type, "42")
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.format, image.size) == (kind, (40, 32))
    answer = await painted(client, mask=f"data:image/png;base64,{mask()}", sd_seed=-1, hd_strategy="Nope")
    assert int(answer.headers["x-seed"]) >= 0
    with Image.open(io.BytesIO(answer.content)) as image, Image.open(io.BytesIO(base64.b64decode(picture()))) as own:
        right = (30, 0, 40, 32)
        assert image.convert("RGB").crop(right).tobytes() == own.crop(right).tobytes()
        assert image.convert("RGB").getpixel((3, 3)) != own.getpixel((3, 3))


async def test_an_erase_model_ignores_the_extender_and_the_seed(erasing: httpx2.AsyncClient) -> None:
    extended = {"use_extender": True, "extender_x": -100, "extender_width": 400}
    answers = [await painted(erasing, **extended), await painted(erasing, sd_seed=7)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    told = (await erasing.get("/api/v1/model")).json()
    assert (told["model_type"], told["need_prompt"]) == ("inpaint", False)


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"mask": mask((40, 10))}, 400, "Image size((32, 40)) and mask size((10, 40)) not match."),
        ({"image": "!!!"}, 500, "UnidentifiedImageError"),
        ({"image": "aGVsbG8="}, 500, "UnidentifiedImageError"),
        ({"mask": None}, 500, "AttributeError"),
        ({"sd_steps": "many"}, 422, "sd_steps"),
        ({"sd_strength": 2.0, "sd_scale": 0.0}, 422, "sd_scale"),
        ({"cv2_flag": "NOPE"}, 422, "cv2_flag"),
    ],
)
async def test_what_the_real_one_refuses_is_refused_in_its_shape(
    client: httpx2.AsyncClient, changes: dict[str, Any], status: int, told: str
) -> None:
    answer = await painted(client, **changes)
    assert answer.status_code == status
    assert told in answer.text
    assert answer.json().keys() == ({"detail"} if status == 422 else {"error", "detail", "body", "errors"})
    assert (await client.get(ROUTE)).json() == {"detail": "Not Found"}


async def test_a_switch_to_a_model_that_is_not_there_breaks_all_until_it_is_switched_back(
    client: httpx2.AsyncClient,
) -> None:
    broken = {"error": "KeyError", "detail": "", "body": "", "errors": "'nosuch'"}
    answer = await client.post("/api/v1/model", json={"name": "nosuch"})
    assert (answer.status_code, answer.json()) == (500, broken)
    answer = await painted(client)
    assert (answer.status_code, answer.json()) == (500, broken)
    assert (await client.post("/api/v1/model", json={"name": "cv2"})).json()["model_type"] == "inpaint"
    assert (await painted(client)).is_success
