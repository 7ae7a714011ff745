"""What a provider is. Knows neither MCP nor sockets, clocks or the environment.

`Provider` is what the service sees: declarations, and two coroutines. `HttpProvider` implements these for a vendor from
pure translations, so that a vendor's file holds data and functions from values to values.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import InputImage, Order, StepName
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import MAX_ZOOM, MIN_ZOOM, Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import TaskUpdate


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


Features = Mapping[SourceKind, Mapping[Feature, str]]
Zooms = Mapping[SourceKind, ZoomLimits]


class Provider(ABC):
    """A vendor's API, or the engine on this machine.

    `features` says, for each kind of source that is accepted, which arguments can be honoured, each with its limits in
    words; `zoom` holds the limits of `zoom` as data. What is declared nowhere is refused before anything is sent.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    docs_url: ClassVar[str]
    """Where a user reads on: the vendor's site."""
    note: ClassVar[str] = ""
    price: ClassVar[str]
    image_lifetime: ClassVar[str]
    sources: ClassVar[tuple[SourceForm, ...]]
    features: ClassVar[Features]
    zoom: ClassVar[Zooms]
    first_poll: ClassVar[float]
    """Seconds from the order to the first question."""
    poll_interval: ClassVar[float]
    """Seconds between questions."""
    usual_seconds: ClassVar[float]
    """How long an outpaint usually takes; progress is estimated from it where the provider gives none."""
    usd: ClassVar[Mapping[StepName, float]] = {}
    """The price in USD of each step, where it is known."""
    refunds_failures: ClassVar[bool] = False
    """Whether a task that the provider calls failed costs nothing."""
    costs_money: ClassVar[bool] = True
    leaves_machine: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False
    """Whether an order may be asked for again under the same key without being placed twice."""
    reserved_options: ClassVar[Mapping[str, str]] = {}
    """The keys that `provider_options` must not hold, since the adapter can write them, with what to use instead."""
    image_hosts: ClassVar[tuple[str, ...]] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The environment variables still missing; empty when the provider is configured."""
        return ()

    @property
    def needs_upscaled(self) -> bool:
        """Whether one image of a grid must be upscaled before it can be extended."""
        return SourceForm.UPSCALED in self.sources and SourceForm.GRID not in self.sources

    def limits(self, kind: SourceKind) -> dict[Feature, str]:
        """Every feature for this kind of source with its limits in words; empty if the kind is not accepted."""
        if kind not in self.features:
            return {}
        return {Feature.ZOOM: str(self.zoom[kind]), **self.features[kind]}

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        """Refuse what this provider cannot do with this kind of source.

        Raises:
            UnsupportedFeatureError: a feature is missing, or a value lies outside its limits.
            InvalidRequestError: `provider_options` holds a key that an argument stands for.
        """
        limits = self.limits(kind)
        if not limits:
            word = "pictures of one's own" if kind is SourceKind.IMAGE else "finished tasks"
            raise UnsupportedFeatureError(f"{self.title} does not extend {word}.")
        for feature in Feature:
            if feature in request.asked() and feature not in limits:
                raise UnsupportedFeatureError(f"{self.title} has no {feature.value}{_for(kind)}.")
        if self.sends_zoom(request) and not self.zoom[kind].allows(request.zoom):
            raise UnsupportedFeatureError(
                f"{self.title} cannot zoom {request.zoom:g}{_for(kind)}: its zoom is {limits[Feature.ZOOM]}."
            )
        for key in request.provider_options:
            if key in self.reserved_options:
                raise InvalidRequestError(
                    f"provider_options must not hold {key!r}.", f"Use {self.reserved_options[key]} instead."
                )

    def check_image(self, request: OutpaintRequest, picture: InputImage) -> None:  # noqa: B027 (nothing to refuse)
        """Refuse what this provider cannot do with this very picture (its size, its lack of a public URL).

        Raises:
            UnsupportedFeatureError: the picture lies outside the provider's limits.
            InvalidRequestError: the new picture would.
        """

    def identity_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What of `provider_options` changes the picture, so that it tells orders apart."""
        return {key: value for key, value in options.items() if key != "metadata"}

    def sends_zoom(self, request: OutpaintRequest) -> bool:
        """Whether `zoom` decides anything; where it does not, any is taken and it tells no orders apart."""
        return True

    def usd_for(self, request: OutpaintRequest) -> Mapping[StepName, float]:
        """The price in USD of each step of this very request, where it is known."""
        return self.usd

    def notes_for(self, request: OutpaintRequest) -> tuple[str, ...]:
        """What the client should know of how this request is understood here."""
        return ()

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        """Whether the provider can be asked to call `url` when an order on this kind of source is done."""
        return False

    def called_back(self, headers: Mapping[str, str], body: bytes) -> str:
        """The `remote_id` that a callback is about, its signature checked where the provider signs.

        Raises:
            InvalidRequestError: it is none of this provider's callbacks.
        """
        raise InvalidRequestError(f"{self.title} sends no webhooks.")

    def callback_token(self, task_id: str) -> str:
        """What marks a callback about a task as genuine: nothing does, if it is empty."""
        return ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What the provider needs while the program runs."""
        yield

    @abstractmethod
    async def start(self, order: Order) -> TaskUpdate:
        """Place the order, once. The answer names the `remote_id`.

        Raises:
            OrderUnconfirmedError: it may or may not have been taken.
            OutpaintError: it was certainly not taken.
        """

    @abstractmethod
    async def poll(self, remote_id: str) -> TaskUpdate:
        """Ask how the order stands. May be repeated.

        Raises:
            UnknownTaskError: the provider does not know the id (any more).
            OutpaintError: the question was not answered.
        """


def _for(kind: SourceKind) -> str:
    return " for a picture of one's own" if kind is SourceKind.IMAGE else ""
