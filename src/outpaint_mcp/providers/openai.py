"""OpenAI: image edits. https://developers.openai.com/api/docs/guides/image-generation (November 2026)

Your own image lies on a larger canvas, with a mask that is transparent where there is to be painted. The mask is
guidance only: the whole image is drawn anew, and the original pasted back here.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import outpaint_mcp.providers as api

USUAL_MODEL = "gpt-image-2"
# Older ones paint three sizes only (1024x1024, 1536x1024, 1024x1536), into which hardly any frame fits.
MODELS = (
    USUAL_MODEL,
    "gpt-image-2-2026-04-21",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-sunburst-2026-09-08",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-flare-2026-09-08",
    "gpt-image-2.6-sunburst",
    "gpt-image-2.6-flare",
)
# "At most 3840x2160": taken for either way round, as many pixels as these.
CANVAS = api.CanvasLimits(max_side=3840, max_pixels=8_294_400, min_pixels=655_360, max_ratio=Fraction(3), multiple=16)
# A prompt is needed, and outpaints often have none.
PROMPT = (
    "Extend this picture beyond its borders: paint the transparent area so that scene, perspective, light, colours and "
    "style go on without a seam. Leave what is there already as it is. No frame, no border, no text."
)
# Several images would be paid each, while limits count one order; a stream is no answer that is read here.
REFUSED = {
    "n": "Leave it out: an order gives one image. Order again with repeat for another.",
    "stream": "Leave it out: the image is waited for.",
    "partial_images": "Leave it out: the image is waited for.",
    "images": "Give the one image as image.",
}


def _check_options(options: Mapping[str, Any]) -> None:
    for name in options:
        # Files of a form are listed as image[]: further ones would be taken for what is to be extended.
        advice = REFUSED["images"] if name.startswith("image[") else REFUSED.get(name)
        if advice is not None:
            raise api.InvalidRequestError(f"OpenAI's orders here go without {name!r} in provider_options.", advice)


def _size(frame: api.Frame) -> Mapping[str, Any]:
    return {"size": f"{frame.canvas_width}x{frame.canvas_height}"}


def _operation(model: str) -> api.Operation:
    return api.Operation(
        "/images/edits",
        source=api.Argument(wire="image"),
        arguments={
            api.Feature.ASPECT_RATIO: api.Argument("1:3 to 3:1"),
            api.Feature.SIDES: api.Argument("any"),
            api.Feature.PROMPT: api.Argument("any; a sentence that asks for an extension if there is none", "prompt"),
            api.Feature.PROVIDER_OPTIONS: api.Argument(
                "merged into the form: quality, background, moderation, ..., but no n; model is gpt-image-2, "
                "gpt-image-2.5-sunburst, gpt-image-2.5-flare, gpt-image-2.6-sunburst or gpt-image-2.6-flare",
                check=_check_options,
            ),
        },
        constants={"model": model},
        frame=api.FrameFields(_size, wires=("size",)),
        canvas=CANVAS,
        multipart=True,
        mask="mask",
        max_bytes=50_000_000,
    )


class _Image(api.Answer):
    b64_json: api.Text = ""


class _Usage(api.Answer):
    total_tokens: api.Number = None


class _Edited(api.Answer):
    data: tuple[_Image, ...]
    usage: _Usage = _Usage()


class OpenAI(api.SynchronousProvider):
    name = "openai"
    title = "OpenAI"
    base_url = "https://api.openai.com/v1"
    key_env = "OPENAI_API_KEY"
    docs_url = "https://developers.openai.com/api/docs/guides/image-generation"
    note = (
        "Draws the whole image anew; the original is pasted back. Over 2560x1440 pixels is experimental. A lost answer "
        "cannot be looked up. Some models need a verified organisation."
    )
    price = "by tokens, which the answer tells; quality and size decide how many. Their prices are not confirmed here"
    image_lifetime = "none: the answer is the image, which this server keeps"
    sources = (api.SourceForm.OWN_IMAGE,)
    original = api.Original.PASTED_BACK
    variant_option = "model"
    variants: ClassVar = {model: _operation(model) for model in MODELS}
    operations: ClassVar = {api.SourceKind.IMAGE: variants[USUAL_MODEL]}
    # "Up to two minutes for complex prompts."
    usual_seconds = 60.0

    def build_submit(self, order: api.Order, image_url: str | None = None) -> api.ApiCall:
        return super().build_submit(replace(order, prompt=order.prompt or PROMPT), image_url)

    def notes_for(self, request: api.OutpaintRequest, frame: api.Frame | None = None) -> tuple[str, ...]:
        notes = super().notes_for(request, frame)
        if frame is not None and request.prompt is None:
            notes = (*notes, f"OpenAI needs a prompt; none was given, so it is sent this one: “{PROMPT}”")
        return notes

    def parse_images(self, body: Any) -> api.Painted:
        answer = self.read_as(_Edited, body)
        cost = api.usd_cost(answer.usage.total_tokens, "tokens", None)
        return api.Painted(tuple(self.decoded(image.b64_json) for image in answer.data), cost)
