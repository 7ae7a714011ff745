"""Stability AI's form, what it extends, and an answer that its filter has blurred."""

import base64
from pathlib import Path

import httpx2
import pytest

from outpaint_mcp.domain.errors import ContentRejectedError, UnexpectedResponseError, UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import SourceKind
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.stability import Stability

from .easel import nowhere
from .network import Queue
from .test_contract import build
from .through import image_order, input_image

IMAGE = SourceKind.IMAGE
PICTURE = base64.b64encode(b"png").decode()


@pytest.fixture
def provider() -> Stability:
    found = build(Stability)
    assert isinstance(found, Stability)
    return found


def test_an_order_is_a_form_with_the_pixels_on_each_side(provider: Stability) -> None:
    order = image_order(frame=Frame(1200, 700, 400, 30, 800, 600), prompt="a lake", options={"creativity": 0.3})
    form = {"creativity": "0.3", "left": "400", "right": "0", "up": "30", "down": "70", "prompt": "a lake"}
    assert provider.build_submit(order) == ApiCall("POST", "/v2beta/stable-image/edit/outpaint", form=form)


def test_what_is_too_large_is_scaled_and_what_no_scaling_helps_refused(provider: Stability) -> None:
    for frame in (
        Frame(5000, 1500, 4000, 0, 1000, 1500),
        Frame(8000, 6000, 2000, 1500, 4000, 3000),
        Frame(6100, 2400, 50, 0, 6000, 2400),
    ):
        sent = provider.operations[IMAGE].sent_frame(frame)
        assert max(sent.growths) <= 2000
        assert sent.width * sent.height <= 9_437_184
        assert 2 * max(sent.width, sent.height) <= 5 * min(sent.width, sent.height)
        provider.check_image(input_image(frame.width, frame.height), frame)
    for width, height, told in ((63, 100, "at least 64 pixels"), (1001, 400, "up to 2.5:1")):
        with pytest.raises(UnsupportedFeatureError, match=told):
            provider.check_image(input_image(width, height), Frame(width + 10, height, 10, 0, width, height))


def test_an_image_is_read_by_its_finish_reason(provider: Stability) -> None:
    assert provider.parse_images({"image": PICTURE, "finish_reason": "SUCCESS", "seed": 7}).images == (b"png",)
    assert provider.parse_images({"image": PICTURE}).notes == ()
    for odd in ({"image": PICTURE, "finish_reason": "LENGTH"}, b"png"):
        painted = provider.parse_images(odd)
        assert (painted.images, painted.failure, len(painted.notes)) == ((b"png",), None, 1), "it is paid for"
    for lost in ({"image": "?", "finish_reason": "SUCCESS"}, {"id": "0" * 64}, "x"):
        with pytest.raises(UnexpectedResponseError):
            provider.parse_images(lost)


async def test_a_blurred_image_is_no_result_and_may_have_been_charged(tmp_path: Path) -> None:
    answer = httpx2.Response(200, json={"image": PICTURE, "finish_reason": "content_filtered", "seed": 7})
    (tmp_path / "a.png").write_bytes(b"x")
    provider = Stability(Queue([answer]).client(), keep=nowhere, key="key")
    update = await provider.start(image_order(input_image(path=str(tmp_path / "a.png"))))
    assert update.status is Status.FAILED
    assert update.failure is not None
    assert (update.failure.code, update.failure.provider_code) == ("content_rejected", "CONTENT_FILTERED")
    assert not provider.refunds_failures


def test_a_refusal_is_read_in_both_shapes(provider: Stability) -> None:
    listed = {"id": "a1b2", "name": "content_moderation", "errors": ["Your request was flagged by our moderation."]}
    error = provider.read_error(403, listed)
    assert isinstance(error, ContentRejectedError)
    assert error.provider_code == "content_moderation"
    assert isinstance(provider.read_error(403, {**listed, "errors": ["?"]}), ContentRejectedError)
    assert provider.read_error(401, {"id": "a1b2", "name": "unauthorized", "message": "missing authorization"}) is None
