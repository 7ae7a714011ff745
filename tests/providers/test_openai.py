"""OpenAI's form, its models and sizes, and what its answers mean."""

import base64
from typing import Any

import pytest

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OutpaintError,
    RateLimitedError,
    UnexpectedResponseError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost
from outpaint_mcp.providers.calls import ApiCall
from outpaint_mcp.providers.openai import MODELS, PROMPT, OpenAI
from outpaint_mcp.providers.rejections import error_by_status

from .test_contract import build
from .through import frame_of, image_order, input_image

IMAGE = SourceKind.IMAGE


@pytest.fixture
def provider() -> OpenAI:
    found = build(OpenAI)
    assert isinstance(found, OpenAI)
    return found


def test_an_order_is_a_form_with_a_size_a_model_and_a_prompt(provider: OpenAI) -> None:
    order = image_order(
        frame=Frame(1216, 608, 0, 0, 800, 608), prompt="a lake", options={"quality": "high", "user": None}
    )
    form = {"quality": "high", "model": "gpt-image-2", "size": "1216x608", "prompt": "a lake"}
    assert provider.build_submit(order) == ApiCall("POST", "/images/edits", form=form)
    named = image_order(options={"model": "gpt-image-2.6-flare", "keep_original": False})
    assert provider.build_submit(named).form == {"model": "gpt-image-2.6-flare", "size": "1200x900", "prompt": PROMPT}


def test_the_prompt_that_stands_in_for_none_is_told(provider: OpenAI) -> None:
    image = input_image(1600, 1280)
    frame = frame_of(image)
    (note,) = provider.notes_for(OutpaintRequest(image="a.png"), frame)
    assert PROMPT in note
    assert provider.notes_for(OutpaintRequest(image="a.png", prompt="a lake"), frame) == ()


@pytest.mark.parametrize("model", ["gpt-image-1.5", "gpt-image-1-mini", "chatgpt-image-latest", "dall-e-2", "", 7])
def test_a_model_that_paints_no_free_size_is_refused_with_those_that_do(provider: OpenAI, model: object) -> None:
    with pytest.raises(InvalidRequestError, match="has no model") as refused:
        provider.check(OutpaintRequest(image="a.png", provider_options={"model": model}), IMAGE)
    assert all(one in refused.value.advice for one in MODELS)


@pytest.mark.parametrize("name", ["n", "stream", "partial_images", "image[]", "images", "size", "mask", "image"])
def test_what_would_be_paid_several_times_or_is_written_here_is_refused(provider: OpenAI, name: str) -> None:
    for model in (None, *MODELS[1:2]):
        options = {name: 1} if model is None else {name: 1, "model": model}
        with pytest.raises(InvalidRequestError, match=f"'{name}'".replace("[", r"\[")):
            provider.check(OutpaintRequest(image="a.png", provider_options=options), IMAGE)
    provider.check(OutpaintRequest(image="a.png", provider_options={"quality": "low"}), IMAGE)


@pytest.mark.parametrize(
    ("size", "ordered"),
    [((10, 10), (20, 20)), ((300, 200), (450, 200)), ((5000, 4000), (10000, 4500)), ((1500, 500), (1500, 501))],
)
def test_every_frame_comes_to_a_size_that_is_painted(
    provider: OpenAI, size: tuple[int, int], ordered: tuple[int, int]
) -> None:
    frame = Frame(*ordered, 0, 0, *size)
    sent = provider.operations[IMAGE].sent_frame(frame)
    assert sent.canvas_width % 16 == sent.canvas_height % 16 == 0
    assert 655_360 <= sent.canvas_width * sent.canvas_height <= 8_294_400
    assert sent.canvas_width <= min(3840, 3 * sent.canvas_height)
    provider.check_image(input_image(*size), frame)
    for long in (Frame(1501, 500, 0, 0, 800, 500), Frame(500, 1501, 0, 0, 500, 800)):
        with pytest.raises(UnsupportedFeatureError, match="up to 3:1"):
            provider.check_image(input_image(long.width, long.height), long)


def test_the_images_are_decoded_and_the_tokens_told(provider: OpenAI) -> None:
    image = base64.b64encode(b"png").decode()
    painted = provider.parse_images({"data": [{"b64_json": image}], "usage": {"total_tokens": 4711}})
    assert painted.images == (b"png",)
    assert painted.cost == Cost(amount=4711, unit="tokens", usd=None)
    assert provider.parse_images({"data": [{"b64_json": image}]}).cost is None
    for lost in ({"data": [{"b64_json": "?"}]}, {"data": "x"}, {}):
        with pytest.raises(UnexpectedResponseError):
            provider.parse_images(lost)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "moderation_blocked", "Your request was rejected by the safety system.", ContentRejectedError),
        (400, "moderation_blocked", "", ContentRejectedError),
        (400, "billing_hard_limit_reached", "Billing hard limit has been reached", InsufficientCreditsError),
        (
            429,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan.",
            InsufficientCreditsError,
        ),
        (429, "rate_limit_exceeded", "Rate limit reached for gpt-image-2 on images per min.", RateLimitedError),
        (401, "invalid_api_key", "Incorrect API key provided.", AuthenticationError),
        (403, None, "Your organization must be verified to use the model.", AuthenticationError),
        (400, "invalid_value", "Invalid size: width and height must be multiples of 16.", InvalidRequestError),
    ],
)
async def test_a_refusal_is_what_its_code_says(
    provider: OpenAI, status: int, code: str | None, message: str, kind: type[OutpaintError]
) -> None:
    body: dict[str, Any] = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    error = provider.read_error(status, body)
    if error is None:  # then the status decides
        error = error_by_status(provider.title, status, body)
    assert type(error) is kind
    assert error.provider_code == code


def test_a_large_file_is_refused_only_if_it_is_sent_as_large_as_it_is(provider: OpenAI) -> None:
    provider.check_image(input_image(8000, 6000, size=60_000_000), frame_of(input_image(8000, 6000)))
    with pytest.raises(UnsupportedFeatureError, match="up to 50 MB"):
        provider.check_image(input_image(1600, 1200, size=60_000_000), frame_of(input_image(1600, 1200)))
