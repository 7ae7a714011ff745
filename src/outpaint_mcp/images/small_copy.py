"""How large the small copies of images are that are shown and not kept."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SmallCopy:
    """A copy with neither side above `side` pixels and at most `length` bytes long, where any quality can reach that.

    It is a JPEG that shows transparent parts on white; or, of an image with such parts, a `transparent` WebP.
    """

    side: int
    length: int
    transparent: bool = False


PREVIEW: Final = SmallCopy(512, 100_000)
"""Stands in a tool's result: Claude Desktop takes at most 1 MB, and a model pays for it."""
SCREEN: Final = SmallCopy(1600, 600_000, transparent=True)
"""Fills the view in a chat, also on a screen of double density."""
