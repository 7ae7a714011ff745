"""How clients name our tasks and their images: by id or by resource, with whatever was written around it. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Self

from outpaint_mcp.domain.values import INVISIBLE, QUOTES

_LONGEST: Final = 300
_AROUND: Final = rf"\s{INVISIBLE}{re.escape(QUOTES)}<>()\[\]{{}}*"
_EDGES: Final = re.compile(rf"^[{_AROUND}]+|[{_AROUND}.,;:!]+$")
_ID: Final = re.compile(r"(op-[A-Za-z0-9_-]{22})(?:(?:-|#|/|/images/)([0-9]))?")
"""An id; or an image's, as links and files are named."""
_WITHIN: Final = re.compile(r"(?<![\w./-])op-[A-Za-z0-9_-]{22}(?![\w-])")
_RESOURCE: Final = re.compile(r"outpaint://tasks/([^/\s]+)(?:/images/([0-9]{1,3}))?/?", re.IGNORECASE)


def bare(text: str) -> str:
    """An id without the white space, quotes, brackets and full stop around it; one of ours also out of a sentence."""
    within = set(_WITHIN.findall(text))
    text = _EDGES.sub("", text)
    return within.pop() if len(within) == 1 and TaskReference.of(text) is None else text


@dataclass(frozen=True, slots=True)
class TaskReference:
    """A task of ours, and which of its images where that is said."""

    task_id: str
    image_index: int | None = None

    @classmethod
    def of(cls, text: str) -> Self | None:
        """What an ``op-...`` id or the address of a task's or an image's resource names; None if it is neither."""
        if len(text) > _LONGEST:
            return None
        text = _EDGES.sub("", text)
        found = _ID.fullmatch(text) or _RESOURCE.fullmatch(text)
        return None if found is None else cls(found[1], None if found[2] is None else int(found[2]))
