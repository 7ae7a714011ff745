"""Bria's model that expands images, which several vendors pass on: the image lies on a canvas of any size."""

from collections.abc import Mapping
from typing import Any

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.providers.declarations import CheckFrame, FrameFields, any_frame


def bria_frame(*, within: str = "", ratio: str | None = None, check: CheckFrame = any_frame) -> FrameFields:
    """The fields that place the image on its canvas.

    Args:
        within: what their names begin with, a dot at its end.
        ratio: what the model's own ratio is set to, where the canvas is ignored otherwise.
        check: as of `FrameFields`.
    """

    def write(frame: Frame) -> Mapping[str, Any]:
        fields: dict[str, Any] = {} if ratio is None else {"aspect_ratio": ratio}
        fields |= {
            "canvas_size": [frame.canvas_width, frame.canvas_height],
            "original_image_size": [frame.width, frame.height],
            "original_image_location": [frame.x, frame.y],
        }
        return {f"{within}{name}": value for name, value in fields.items()}

    return FrameFields(write, tuple(write(Frame(1, 1, 0, 0, 1, 1))), check)


def check_bria_options(options: Mapping[str, Any]) -> None:
    """Refuse the model's own ratio, beside which it ignores the canvas and the image's place on it.

    Raises:
        InvalidRequestError: it is given.
    """
    if "aspect_ratio" in options:
        raise InvalidRequestError("provider_options must not hold 'aspect_ratio'.", "Use aspect_ratio instead.")
