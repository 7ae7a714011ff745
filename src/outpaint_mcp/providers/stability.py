"""Stability AI: Stable Image's outpaint. https://platform.stability.ai/docs/api-reference

Takes the pixels to add on each side. The facts are those of its OpenAPI document as it was generated into clients
(2024 to 2026).
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import outpaint_mcp.providers as api

SIDES = ("left", "right", "up", "down")
CANVAS = api.CanvasLimits(
    max_growth=2000,
    max_image_pixels=9_437_184,
    max_image_ratio=Fraction(5, 2),
    min_image_side=64,
    # The largest result is not documented. A PNG of so many pixels fits into what is read of an answer, in base64.
    max_pixels=16_000_000,
)


def _growths(frame: api.Frame) -> Mapping[str, Any]:
    return dict(zip(SIDES, frame.growths, strict=True))


class _Painted(api.Answer):
    image: api.Text = ""
    finish_reason: api.Text = ""


class _Account(api.Answer):
    credits: api.Number


class Stability(api.SynchronousProvider):
    name = "stability"
    title = "Stability AI"
    base_url = "https://api.stability.ai"
    key_env = "STABILITY_API_KEY"
    account_path = "/v1/user/balance"
    docs_url = "https://platform.stability.ai/docs/api-reference"
    note = "Extends any image; the edge is soft, and the original is pasted back. A lost answer cannot be looked up."
    price = "4 credits per outpaint by a text of 2024-25; today's price is not confirmed"
    image_lifetime = "none: the answer is the image, which this server keeps"
    sources = (api.SourceForm.OWN_IMAGE,)
    original = api.Original.PASTED_BACK
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/v2beta/stable-image/edit/outpaint",
            source=api.Argument(wire="image"),
            arguments={
                api.Feature.ASPECT_RATIO: api.Argument("any"),
                api.Feature.SIDES: api.Argument("any"),
                api.Feature.PROMPT: api.Argument("any", "prompt"),
                api.Feature.PROVIDER_OPTIONS: api.Argument(
                    "merged into the form: creativity, seed, style_preset, output_format"
                ),
            },
            frame=api.FrameFields(_growths, wires=SIDES),
            canvas=CANVAS,
            multipart=True,
            # A request of more than 10 MiB is said to be refused, its other fields included.
            max_bytes=10_000_000,
        )
    }
    # Not documented.
    usual_seconds = 30.0

    def parse_account(self, body: Any) -> api.Balance:
        return self.balance(self.read_as(_Account, body).credits, "credits")

    def parse_images(self, body: Any) -> api.Painted:
        if isinstance(body, bytes):
            # JSON was asked for. In an answer that is an image the reason is a header, which a gateway may drop.
            note = "Stability AI sent the image alone, without saying whether its content filter has blurred it."
            return api.Painted((body,), notes=(note,))
        answer = self.read_as(_Painted, body)
        match answer.finish_reason.strip().upper():
            case "CONTENT_FILTERED":
                # Whether it is charged is not documented: a 403 of the moderation is not.
                failure = api.Failure(
                    code=api.ContentRejectedError.code,
                    message="Stability AI's content filter has blurred the image.",
                    provider_code="CONTENT_FILTERED",
                    retryable=False,
                )
                return api.Painted((), failure=failure)
            case "SUCCESS" | "":
                return api.Painted((self.decoded(answer.image),))
        note = f"Stability AI gives the reason {answer.finish_reason[:40]!r}, which is not in its documentation."
        return api.Painted((self.decoded(answer.image),), notes=(note,))
