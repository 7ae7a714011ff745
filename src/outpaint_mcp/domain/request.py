"""What a client asks for: the checked arguments of one `outpaint` call, and the values in them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Literal, Self, get_args

AUTO = "auto"
"""In place of a provider's name: whoever fits."""
MIN_ZOOM, MAX_ZOOM = 1.0, 2.0
DEFAULT_ZOOM = 2.0
"""Where no `aspect_ratio` is given; with one it is `MIN_ZOOM`."""
MAX_PROMPT = 8192
MAX_IMAGE_INDEX = 4
MAX_WAIT_SECONDS = 45
DEFAULT_WAIT_SECONDS = 25


def default_zoom(aspect_ratio: object) -> float:
    """The zoom of a request that names none: a ratio alone adds no more than it needs."""
    return DEFAULT_ZOOM if aspect_ratio is None else MIN_ZOOM


def folded(text: str) -> str:
    """The text without white space around it, and with a single space wherever there is some within."""
    return " ".join(text.split())


class SourceKind(StrEnum):
    """What is extended: the image of a finished task, or your own image."""

    TASK = "task"
    IMAGE = "picture"


class Feature(StrEnum):
    """What a provider may or may not be able to do; the values are the argument names."""

    ZOOM = "zoom"
    ASPECT_RATIO = "aspect_ratio"
    SIDES = "sides"
    IMAGE_INDEX = "image_index"
    PROMPT = "prompt"
    SPEED = "speed"
    WEBHOOK_URL = "webhook_url"
    WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 (an argument's name)
    WEBHOOK_EVENTS = "webhook_events"
    PROVIDER_OPTIONS = "provider_options"


Speed = Literal["relax", "fast", "turbo"]
WebhookEvent = Literal["progress", "completed", "failed"]
Side = Literal["left", "right", "top", "bottom"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)


@dataclass(frozen=True, slots=True)
class AspectRatio:
    """Width to height of the new image, in lowest terms (32:18 is 16:9)."""

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
class Webhook:
    """Where the vendor is to push to. Lives in memory only: `url` may carry secrets in its query, `secret` is one."""

    url: str
    secret: str | None = field(default=None, repr=False)
    events: tuple[WebhookEvent, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat of it."""
        return tuple(found for found in (self.secret, self.url.partition("?")[2]) if found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderArguments:
    """The arguments that reach a provider as they are. A request has them, and so has the order that it comes to.

    A field here has a `Feature` of its name. It is then part of an order's identity, stored and shown; refused by every
    provider that does not declare it; and sent by those that do.
    """

    aspect_ratio: AspectRatio | None = None
    sides: tuple[Side, ...] | None = None
    """Where the new area may lie, in the order of `SIDES`; None for all four."""
    prompt: str | None = None
    speed: Speed | None = None

    def provider_arguments(self) -> dict[str, Any]:
        """These arguments by name."""
        return {name: getattr(self, name) for name in PROVIDER_ARGUMENTS}


PROVIDER_ARGUMENTS: Final = tuple(one.name for one in fields(ProviderArguments))


@dataclass(frozen=True, slots=True)
class OutpaintRequest(ProviderArguments):
    """One `outpaint` call as the client made it, its values checked and normalised.

    `file_format` (png, jpeg, webp) is what the image is to be in, if the provider has a choice.
    """

    task_id: str | None = None
    image: str | None = field(default=None, repr=False)
    provider: str = AUTO
    image_index: int | None = None
    zoom: float = DEFAULT_ZOOM
    webhook: Webhook | None = None
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    repeat: bool = False
    file_format: str | None = None

    def asked(self) -> frozenset[Feature]:
        """The features that this request needs of a provider, `ZOOM` always among them."""
        webhook = self.webhook or Webhook("")
        given: dict[str, object] = {
            **self.provider_arguments(),
            Feature.ZOOM: True,
            Feature.IMAGE_INDEX: self.image_index,
            Feature.WEBHOOK_URL: webhook.url,
            Feature.WEBHOOK_SECRET: webhook.secret,
            Feature.WEBHOOK_EVENTS: webhook.events,
            Feature.PROVIDER_OPTIONS: self.provider_options,
        }
        return frozenset(Feature(name) for name, value in given.items() if value)
