"""What is ordered from a provider, and what it is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from outpaint_mcp.domain.request import DEFAULT_ZOOM, AspectRatio, Speed, Webhook


@dataclass(frozen=True, slots=True)
class Parent:
    """A finished task's image as the source.

    `reference` is what the vendor wants named, where that is not `remote_id` (Vtrix's remote job id, from the parent's
    own answer). `index` is 1-4 on a grid and 1 on a single image. `is_grid` is None where the answer did not tell.
    """

    remote_id: str
    reference: str | None = None
    index: int = 1
    is_grid: bool | None = None


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture of one's own as the source, read, checked and measured. Width and height in pixels, as displayed.

    `url` is the public http(s) URL it came from, or None for a file or a ``data:`` URI. `path` is our own copy, `size`
    its bytes, or 0 where nobody counted them.
    """

    sha256: str
    mime_type: str
    width: int
    height: int
    path: str
    url: str | None = field(default=None, repr=False)
    size: int = 0


class StepName(StrEnum):
    UPSCALE = "upscale"
    OUTPAINT = "outpaint"


@dataclass(frozen=True, slots=True)
class Order:
    """What a provider is asked to do, once. Everything is resolved and already known to be possible.

    `key` is unique to this step of this task and stays the same if the order is asked for again.
    """

    key: str
    step: StepName
    source: Parent | InputImage
    zoom: float = DEFAULT_ZOOM
    aspect_ratio: AspectRatio | None = None
    prompt: str | None = None
    speed: Speed | None = None
    webhook: Webhook | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
