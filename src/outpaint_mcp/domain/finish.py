"""What is done on this machine with an image that a provider drew, before it is the result."""

from dataclasses import dataclass

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.working_canvas import WorkingCanvas


@dataclass(frozen=True, slots=True)
class Finish:
    """Where the original is put over the image, and what the image is made before.

    Args:
        frames: what was to be drawn, first as the engine was told it; others say the same in other pixels.
        working: what the engine drew on; the image is cut and scaled to the first frame's canvas. None leaves it as it
            is, and the original is looked for in it.
        pastes: whether the original is put over it.
    """

    frames: tuple[Frame, ...]
    working: WorkingCanvas | None = None
    pastes: bool = True
