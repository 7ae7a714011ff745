"""What became of an order: the task as every client sees it, and what one answer of a provider says of it.

What crosses an edge (a tool's result, a stored row) is a pydantic model; what stays inside is a frozen dataclass.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from outpaint_mcp.domain.order import StepName
from outpaint_mcp.domain.request import Side


class Status(StrEnum):
    """Where a task stands. `UNKNOWN`: the order may or may not have been taken; not final, but it ends a wait."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

    @property
    def ends_a_wait(self) -> bool:
        return self.is_final or self is Status.UNKNOWN


class _Edge(BaseModel):
    """What crosses an edge is never changed in place."""

    model_config = ConfigDict(frozen=True)


class Cost(_Edge):
    """What the provider says it took: `amount` in its own `unit` (points, credits, USD), and in USD where known."""

    amount: float
    unit: Annotated[str, Field(description="The provider's own: points, credits, USD")]
    usd: float | None = None


class Failure(_Edge):
    """Why a task failed or is unknown: `code` is one of errors.py's, `provider_code` the provider's own."""

    code: str
    message: str
    provider_code: str | None = None
    retryable: bool = False


class Image(_Edge):
    """One image of a task: `index` from 1; `url` as the provider gave it; width and height in pixels where known."""

    index: int
    url: Annotated[str, Field(description="Show it to the user; a provider's own expires")]
    copy_url: Annotated[str | None, Field(description="The server's copy, for a day; get_task renews it")] = None
    resource_uri: Annotated[str | None, Field(description="The same for resources/read")] = None
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None


class Place(_Edge):
    """Where the original lies in the new image: its left and top edge and its size, in fractions of that image's."""

    x: float
    y: float
    width: float
    height: float


Confidence = Literal["low", "medium", "high"]
"""How far the new area at a side can be trusted: low where something is cut that nobody drew on."""


class Step(_Edge):
    """One order of a task, such as the upscale before the outpaint."""

    name: StepName
    remote_id: str | None = None
    status: Status


class Task(_Edge):
    """One outpaint that was ordered, as every client sees it. Times are ISO 8601 in UTC; progress is 0-100."""

    id: str
    provider: str
    remote_id: str | None = None
    status: Status
    progress: Annotated[float | None, Field(description="Percent")] = None
    images: tuple[Image, ...] = ()
    grid: Annotated[Image | None, Field(description="All images in one")] = None
    original: Annotated[Place | None, Field(description="Where the original lies, in fractions")] = None
    confidence: Annotated[
        dict[str, Confidence] | None, Field(description="By side: how far to trust what was drawn there")
    ] = None
    cost: Cost | None = None
    failure: Failure | None = None
    request: dict[str, Any] = {}
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    expires_at: Annotated[datetime | None, Field(description="Of the task while it runs, then of the URLs")] = None
    next: Annotated[str, Field(description="What to do now")] = ""


OnProgress = Callable[[float, str], Awaitable[None]]
"""Told percent (0-100, rising) and a short message while a call waits."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Our checked copy of an image, named by its content and never by a path of one machine.

    Width and height in pixels as displayed, None where an older store did not keep them; `size` in bytes, or 0 where
    nobody counted them. `unchecked` if it could not be decoded here, and is kept as it came. While it is new, `url` is
    its own where it is not what the provider gave, and `note` what the client should know of it.
    """

    sha256: str
    mime_type: str
    width: int | None = None
    height: int | None = None
    size: int = 0
    unchecked: bool = False
    url: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ResultImage:
    """An image as a provider's answer names it.

    `stored` where the answer was the image itself. `index` is its place from 1 where others before it are missing, and
    0 where its place in the answer says so.
    """

    url: str
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    stored: StoredImage | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """What one answer of a provider says of one order.

    `progress` is 0-100 or None where the provider gives none. `reference` and `is_grid` describe the finished result as
    the parent of a later order; `zooms` is False where the provider lists what can be done with it and no zoom is
    there, and None where there is no such list. `failure` goes with `FAILED` only.
    """

    status: Status
    remote_id: str | None = None
    progress: float | None = None
    images: tuple[ResultImage, ...] = ()
    grid: ResultImage | None = None
    cost: Cost | None = None
    failure: Failure | None = None
    reference: str | None = None
    is_grid: bool | None = None
    zooms: bool | None = None
    expires_at: datetime | None = None
    notes: tuple[str, ...] = ()
    confidence: dict[Side, Confidence] | None = None
