"""How far the new area at each side can be trusted, in one word, from what the stages know: how much of the side is
plain ground, whether something is cut there, and how well the copied patches fit.

Three words and no number: more than that the residuals do not say.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

from outpaint_mcp.providers.local.complete import OffsetField
from outpaint_mcp.providers.local.ground import Ground
from outpaint_mcp.providers.local.subject import Floats

if TYPE_CHECKING:
    from outpaint_mcp.domain.task import Confidence  # at run time it would bring pydantic

_PLAIN, _MOSTLY, _HARDLY = 0.85, 0.6, 0.3  # of a side that is plain ground
_FITS, _MISFITS = 8.0, 13.0  # grey levels that nine of ten patches differ at most from what they should show
_PART: Final = 8  # cells
_SAME: Final = 0.4  # of the deviation within the parts
_ORDER: "Final[tuple[Confidence, ...]]" = ("low", "medium", "high")


def confidence_of(ground: Ground, field: OffsetField | None) -> "dict[str, Confidence]":
    """The word for each side that grows. `field` is what was copied, None where nothing was."""
    return {name: _word(side.sure, side.cut, _misfit(field, name)) for name, side in ground.sides.items()}


def worst(one: "dict[str, Confidence]", other: "dict[str, Confidence]") -> "dict[str, Confidence]":
    """The lower of two words for each side, of an image that is drawn in several steps."""
    both = one | other
    return {name: min(one.get(name, word), other.get(name, word), key=_ORDER.index) for name, word in both.items()}


def remark(confidence: "dict[str, Confidence]") -> str | None:
    """What a client should be told of it, in a sentence."""
    doubtful = [name for name, word in confidence.items() if word == "low"]
    if not doubtful:
        return None
    where = doubtful[0] if len(doubtful) == 1 else f"{', '.join(doubtful[:-1])} and {doubtful[-1]}"
    return (
        f"At the {where} the image cuts off what the local engine cannot invent, so the new area there is only a guess "
        "(confidence low). A generative provider would do better."
    )


def _word(sure: float, cut: bool, misfit: float | None) -> "Confidence":
    if cut:
        return "low"
    if misfit is None:
        return "high" if sure >= _MOSTLY else "medium"
    if sure >= _PLAIN:
        return "high"
    if sure < _HARDLY and misfit > _MISFITS:
        return "low"
    return "high" if misfit <= _FITS else "medium"


def _misfit(field: OffsetField | None, name: str) -> float | None:
    """What nine of ten patches beside a side differ at most from what they should show, in grey levels.

    Half of it where the band along the side is one texture: there no patch fits exactly, and none has to.
    """
    if field is None:
        return None
    grid = field.grid
    beside = {
        "top": field.y < 0,
        "bottom": field.y >= grid.height,
        "left": field.x < 0,
        "right": field.x >= grid.width,
    }[name]
    errors: Floats = field.error[beside]
    misfit = float(np.quantile(errors, 0.9)) if len(errors) else 0.0
    view = field.cells if name in ("top", "bottom") else field.cells.swapaxes(0, 1)
    depth = max(3 * _PART, len(view) // 3)
    return misfit / 2 if _is_one_texture(view[:depth] if name in ("top", "left") else view[-depth:]) else misfit


def _is_one_texture(cells: Floats) -> bool:
    """Whether all parts of a band have about the same brightness, compared with how it varies within them."""
    rows, columns = (side // _PART for side in cells.shape[:2])
    if min(rows, columns) < 2:
        return False
    grey = cells[: rows * _PART, : columns * _PART, :3].mean(-1).reshape(rows, _PART, columns, _PART)
    return bool(grey.mean((1, 3)).std() < _SAME * grey.std((1, 3)).mean())
