"""The vocabulary: what is asked for, what is ordered, what comes back. Knows nothing else of the program.

What crosses an edge (a tool's result, a stored row) is a pydantic model; what stays inside is a frozen dataclass.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

AUTO = "auto"
"""In place of a provider's name: whoever fits."""
MIN_ZOOM, MAX_ZOOM = 1.0, 2.0
DEFAULT_ZOOM = 2.0
MAX_PROMPT = 8192
MAX_WAIT_SECONDS = 45
DEFAULT_WAIT_SECONDS = 25


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


class SourceKind(StrEnum):
    """What is extended: the image of a finished task, or a picture of one's own."""

    TASK = "task"
    PICTURE = "picture"


class SourceForm(StrEnum):
    """What a provider accepts as a source, in the words of `list_providers`."""

    GRID = "grid image"
    UPSCALED = "upscaled image"
    PICTURE = "own picture"


class Feature(StrEnum):
    """What a provider may or may not be able to do; the values are the argument names."""

    ZOOM = "zoom"
    ASPECT_RATIO = "aspect_ratio"
    IMAGE_INDEX = "image_index"
    PROMPT = "prompt"
    SPEED = "speed"
    WEBHOOK_URL = "webhook_url"
    WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 (an argument's name)
    WEBHOOK_EVENTS = "webhook_events"
    PROVIDER_OPTIONS = "provider_options"


Speed = Literal["relax", "fast", "turbo"]
WebhookEvent = Literal["progress", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class AspectRatio:
    """Width to height of the new picture, in lowest terms (32:18 is 16:9)."""

    width: int
    height: int

    PATTERN = r"^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``W:H``.

        Raises:
            ValueError: if `text` is not two whole numbers from 1 to 9999 with a colon between.
        """
        if re.fullmatch(cls.PATTERN, text) is None:
            raise ValueError(f"{text!r} is not an aspect ratio such as 16:9")
        width, height = (int(part) for part in text.split(":"))
        divisor = math.gcd(width, height)
        return cls(width // divisor, height // divisor)

    def __str__(self) -> str:
        return f"{self.width}:{self.height}"


@dataclass(frozen=True, slots=True)
class ZoomLimits:
    """The zooms that a provider honours: a closed range, or single `values`."""

    low: float = MIN_ZOOM
    high: float = MAX_ZOOM
    values: tuple[float, ...] = ()

    def allows(self, zoom: float) -> bool:
        return zoom in self.values if self.values else self.low <= zoom <= self.high

    def __str__(self) -> str:
        if self.values:
            *most, last = (f"{value:g}" for value in self.values)
            return f"{', '.join(most)} or {last}" if most else last
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the vendor is to push to. Lives in memory only: `url` may carry secrets in its query, `secret` is one."""

    url: str
    secret: str | None = field(default=None, repr=False)
    events: tuple[WebhookEvent, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat of it."""
        return tuple(found for found in (self.secret, self.url.partition("?")[2]) if found)


@dataclass(frozen=True, slots=True)
class OutpaintRequest:
    """One `outpaint` call as the caller made it, its values checked and normalised."""

    task_id: str | None = None
    image: str | None = field(default=None, repr=False)
    provider: str = "auto"
    image_index: int | None = None
    zoom: float = DEFAULT_ZOOM
    aspect_ratio: AspectRatio | None = None
    prompt: str | None = None
    speed: Speed | None = None
    webhook: Webhook | None = None
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    repeat: bool = False

    def asked(self) -> frozenset[Feature]:
        """The features that this request needs of a provider, `ZOOM` always among them."""
        webhook = self.webhook or Webhook("")
        wanted: dict[Feature, object] = {
            Feature.ZOOM: True,
            Feature.ASPECT_RATIO: self.aspect_ratio,
            Feature.IMAGE_INDEX: self.image_index,
            Feature.PROMPT: self.prompt,
            Feature.SPEED: self.speed,
            Feature.WEBHOOK_URL: webhook.url,
            Feature.WEBHOOK_SECRET: webhook.secret,
            Feature.WEBHOOK_EVENTS: webhook.events,
            Feature.PROVIDER_OPTIONS: self.provider_options,
        }
        return frozenset(feature for feature, value in wanted.items() if value)


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
class Picture:
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
    source: Parent | Picture
    zoom: float = DEFAULT_ZOOM
    aspect_ratio: AspectRatio | None = None
    prompt: str | None = None
    speed: Speed | None = None
    webhook: Webhook | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadFile:
    """One file of a multipart request: the form field's name, a file name, its type and its bytes."""

    field_name: str
    file_name: str
    mime_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One HTTP request to a vendor, without the base URL and the key: `path` begins with a slash."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    json: Mapping[str, Any] | None = None
    file: UploadFile | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Edge(BaseModel):
    """What crosses an edge is never changed in place."""

    model_config = ConfigDict(frozen=True)


class Cost(_Edge):
    """What the provider says it took: `amount` in its own `unit` (points, credits, USD), and in USD where known."""

    amount: float
    unit: str
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
    url: str
    resource_uri: str | None = None
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None


class Step(_Edge):
    """One order of a task, such as the upscale before the outpaint."""

    name: StepName
    remote_id: str | None = None
    status: Status


class Task(_Edge):
    """One outpaint that was ordered, as every caller sees it. Times are ISO 8601 in UTC; progress is 0-100."""

    id: str
    provider: str
    remote_id: str | None = None
    status: Status
    progress: float | None = None
    images: tuple[Image, ...] = ()
    grid: Image | None = None
    cost: Cost | None = None
    failure: Failure | None = None
    request: dict[str, Any] = {}
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    next: str = ""


class ProviderInfo(_Edge):
    """One provider, as `list_providers` shows it."""

    name: str
    title: str
    configured: bool
    needs: tuple[str, ...]
    features: dict[str, dict[str, str]]
    zoom: dict[str, str]
    source: tuple[SourceForm, ...]
    price: str
    image_lifetime: str
    note: str
    docs_url: str


OnProgress = Callable[[float, str], Awaitable[None]]
"""Told percent (0-100, rising) and a short message while a call waits."""


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image as a provider's answer names it."""

    url: str
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """What one answer of a provider says of one order.

    `progress` is 0-100 or None where the provider gives none. `reference` and `is_grid` describe the finished result as
    the parent of a later order. `failure` goes with `FAILED` only.
    """

    status: Status
    remote_id: str | None = None
    progress: float | None = None
    images: tuple[RemoteImage, ...] = ()
    grid: RemoteImage | None = None
    cost: Cost | None = None
    failure: Failure | None = None
    reference: str | None = None
    is_grid: bool | None = None
    expires_at: datetime | None = None
    notes: tuple[str, ...] = ()
