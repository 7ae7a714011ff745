"""What a provider is. Knows neither MCP nor sockets, clocks or the environment.

`Provider` is what the service sees: declarations and two coroutines, `start` and `poll`. `HttpProvider` implements
these for vendors over HTTP, so that a vendor's file holds declarations and pure functions.
"""

import contextlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final

import anyio

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, StepName
from outpaint_mcp.domain.provider_info import Original, ProviderInfo, SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, ProviderArguments, SourceKind
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.providers.declarations import Operation

LOOK_SECONDS: Final = 1.5
KEEP_ORIGINAL: Final = "keep_original"
"""The key of `provider_options` by which the original is not pasted back (false)."""


class Provider(ABC):
    """A vendor's API, or the engine on this machine.

    `operations` says, for each kind of source that is accepted, which arguments are honoured, within which limits. What
    is declared nowhere is refused before anything is sent.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    docs_url: ClassVar[str]
    """Where a user reads on: the vendor's site."""
    note: ClassVar[str] = ""
    price: ClassVar[str]
    image_lifetime: ClassVar[str]
    sources: ClassVar[tuple[SourceForm, ...]]
    operations: ClassVar[Mapping[SourceKind, Operation]]
    variant_option: ClassVar[str] = ""
    """The key of `provider_options` that names one of `variants`; the vendor is not sent it."""
    variants: ClassVar[Mapping[str, Operation]] = {}
    """The vendor's endpoints or models that extend your own image, by the vendor's names; the usual one among them."""
    original: ClassVar[Original] = Original.REDRAWN
    """What becomes of the original's pixels. Where it is pasted back, that is done here, with every result."""
    upscale: ClassVar[Operation | None] = None
    """How one image of a grid is upscaled, where that must be done before it can be extended."""
    first_poll: ClassVar[float]
    """Seconds from the order to the first poll."""
    poll_interval: ClassVar[float]
    """Seconds between polls."""
    usual_seconds: ClassVar[float]
    """How long an outpaint usually takes; progress is estimated from it where the provider gives none."""
    usd: ClassVar[Mapping[StepName, float]] = {}
    """The price in USD of each step, where it is known."""
    refunds_failures: ClassVar[bool] = False
    """Whether a task that the provider calls failed costs nothing."""
    costs_money: ClassVar[bool] = True
    leaves_machine: ClassVar[bool] = True
    self_hosted: ClassVar[bool] = False
    """Whether it is an engine that the operator runs, at an address that is configured. It reads the image itself, and
    what it draws is made the ordered image here."""
    uploads: ClassVar[bool] = False
    """Whether your own image is uploaded before the order, which then names the upload."""
    idempotent: ClassVar[bool] = False
    """Whether an order may be sent again under the same idempotency key without being placed twice."""
    callback_pattern: ClassVar[str] = r"[!-~]{1,200}"
    """What every `callback_token` looks like, as a regular expression."""
    synchronous: ClassVar[bool] = False
    """Whether the answer to the order is the result: there is nothing to poll, and a lost answer is lost for good."""
    holds_orders: ClassVar[bool] = False
    """Whether the process that placed an order is the one that can say how it stands, while it lives."""

    @classmethod
    def undeclared(cls) -> tuple[str, ...]:
        """The declarations without a default that this class lacks."""
        ours = [one for one in cls.__mro__ if one.__module__.startswith("outpaint_mcp.")]
        names = dict.fromkeys(name for one in ours for name in inspect.get_annotations(one))
        return tuple(name for name in names if not hasattr(cls, name))

    @property
    def needs(self) -> tuple[str, ...]:
        """The environment variables still missing; empty when the provider is configured."""
        return ()

    @property
    def leaves_owner(self) -> bool:
        """Whether an image that is handed to it leaves this machine and the operator's own network."""
        return self.leaves_machine

    async def locate(self) -> None:  # noqa: B027 - most are where they are
        """Find out what `leaves_owner` depends on. Quick; never raises."""

    async def look(self) -> None:  # noqa: B027 - most are what they are
        """Find out what `info` tells besides the declarations. Never raises."""

    @property
    def needs_upscaled(self) -> bool:
        """Whether one image of a grid must be upscaled before it can be extended."""
        return SourceForm.UPSCALED in self.sources and SourceForm.GRID not in self.sources

    @classmethod
    def limits(cls, kind: SourceKind) -> dict[Feature, str]:
        """Every argument for this kind of source with its limits in words; empty if the kind is not accepted.

        What only some of the variants have is told with their names.
        """
        if kind not in cls.operations:
            return {}
        found = cls.operations[kind].limits()
        for name, variant in cls.variants.items() if kind is SourceKind.IMAGE else ():
            for feature, words in variant.limits().items():
                found.setdefault(feature, f"{words} ({name})")
        return found

    def operation(self, kind: SourceKind, arguments: ProviderArguments, options: Mapping[str, Any]) -> Operation:
        """What extends this kind of source when this is asked for: the variant that `options` name, or the usual one.

        Raises:
            InvalidRequestError: there is no such variant.
        """
        name = options.get(self.variant_option) if kind is SourceKind.IMAGE else None
        if name is None:
            return self.operations[kind]
        if not isinstance(name, str) or name not in self.variants:
            raise InvalidRequestError(
                f"{self.title} has no {self.variant_option} {str(name)[:60]!r} that extends images.",
                f"Leave it out of provider_options, or give {' or '.join(self.variants)}.",
            )
        return self.variants[name]

    def operation_of(self, order: Order) -> Operation:
        """What extends an order's source."""
        return self.operation(order.source.kind, order, order.options)

    @classmethod
    def own_options(cls) -> frozenset[str]:
        """The keys of `provider_options` that are read here and not sent."""
        keep = [KEEP_ORIGINAL] if cls.original is Original.PASTED_BACK else []
        return frozenset([*keep, *filter(None, [cls.variant_option])])

    def finishing(self, order: Order, reference: str | None = None) -> Finish | None:
        """What is done here with the images of an order before they are its result; None if nothing is.

        `reference` as of `poll`.
        """
        pastes = self.original is Original.PASTED_BACK and bool(order.options.get(KEEP_ORIGINAL, True))
        if order.frame is None or not isinstance(order.source, InputImage) or not (pastes or self.self_hosted):
            return None
        frames = self.operation_of(order).sent_frame(order.frame), order.frame
        return Finish(frames, WorkingCanvas.from_reference(reference) if self.self_hosted else None, pastes)

    def missing(self, request: OutpaintRequest, kind: SourceKind) -> list[Feature]:
        """What is asked for and cannot be had.

        Raises:
            InvalidRequestError: `provider_options` name a variant that there is not.
        """
        known = self.operation(kind, request, request.provider_options).limits() if kind in self.operations else {}
        asked = request.asked()
        return [feature for feature in Feature if feature in asked and feature not in known]

    @classmethod
    def reserved_options(cls) -> dict[str, str]:
        """The keys that `provider_options` must not hold, since the adapter can write them: what to use instead."""
        found: dict[str, list[str]] = {}
        operations = list(cls.operations.items())
        operations += [(SourceKind.IMAGE, variant) for variant in cls.variants.values()]
        if cls.upscale is not None:
            operations.append((SourceKind.TASK, cls.upscale))
        for kind, operation in operations:
            for name, arguments in operation.written(kind).items():
                if name != cls.variant_option:  # which names what is written there
                    found.setdefault(name, []).extend(arguments)
        return {name: " and ".join(dict.fromkeys(arguments)) or "the tool itself" for name, arguments in found.items()}

    def info(self) -> ProviderInfo:
        """What `list_providers` says of it."""
        return ProviderInfo(
            name=self.name,
            title=self.title,
            configured=not self.needs,
            original=self.original,
            needs=self.needs,
            features={
                kind.value: {feature.value: words for feature, words in self.limits(kind).items()}
                for kind in self.operations
            },
            zoom={kind.value: str(operation.zoom) for kind, operation in self.operations.items()},
            source=self.sources,
            price=self.price,
            image_lifetime=self.image_lifetime,
            note=self.note,
            docs_url=self.docs_url,
        )

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        """Refuse what this provider cannot do with this kind of source.

        Raises:
            UnsupportedFeatureError: a feature is missing, or a value lies outside its limits.
            InvalidRequestError: an argument is missing that is needed, or `provider_options` holds a key that an
                argument stands for.
        """
        if kind not in self.operations:
            word = "your own images" if kind is SourceKind.IMAGE else "finished tasks"
            raise UnsupportedFeatureError(f"{self.title} does not extend {word}.")
        operation = self.operation(kind, request, request.provider_options)
        asked = request.asked()
        for feature in self.missing(request, kind):
            where = next((name for name, one in self.variants.items() if one is operation), "")
            where = where if feature in self.limits(kind) else ""
            raise UnsupportedFeatureError(
                f"{self.title} has no {feature.value}{_for(kind)}{f' by {where}' if where else ''}."
            )
        for feature, argument in operation.arguments.items():
            if argument.required and feature not in asked:
                raise InvalidRequestError(
                    f"{self.title} needs a {feature.value}{_for(kind)}.", f"Give a {feature.value}."
                )
        if self.sends_zoom(request) and not operation.zoom.allows(request.zoom):
            raise UnsupportedFeatureError(
                f"{self.title} cannot zoom {request.zoom:g}{_for(kind)}: its zoom is {operation.zoom}.",
                f"Give a zoom of {operation.zoom}.",
            )
        reserved = self.reserved_options()
        for key in request.provider_options:
            if key in reserved:
                raise InvalidRequestError(f"provider_options must not hold {key!r}.", f"Use {reserved[key]} instead.")
        self._check_keep_original(request, kind)
        options = {name: value for name, value in request.provider_options.items() if name != KEEP_ORIGINAL}
        apart = {Feature.PROVIDER_OPTIONS: options, Feature.WEBHOOK_EVENTS: request.webhook and request.webhook.events}
        for feature, argument in operation.arguments.items():
            # Neither the index nor a webhook's URL and secret have a check of their own.
            value = apart.get(feature, getattr(request, feature.value, None))
            if feature not in asked or value is None:
                continue
            if argument.values and value not in argument.values:
                raise UnsupportedFeatureError(
                    f"{self.title} has no {feature.value} {value}.",
                    f"Give the {feature.value} {' or '.join(argument.values)}, or leave it out.",
                )
            argument.check(value)

    def _check_keep_original(self, request: OutpaintRequest, kind: SourceKind) -> None:
        if KEEP_ORIGINAL not in request.provider_options:
            return
        if self.original is not Original.PASTED_BACK or kind is not SourceKind.IMAGE:
            raise UnsupportedFeatureError(
                f"{self.title} has no {KEEP_ORIGINAL}{_for(kind)}: nothing is pasted back into its images.",
                f"Leave {KEEP_ORIGINAL} out of provider_options.",
            )
        keep = request.provider_options[KEEP_ORIGINAL]
        if not isinstance(keep, bool):
            raise InvalidRequestError(
                f"{KEEP_ORIGINAL} in provider_options is true or false, and {str(keep)[:60]!r} is neither.",
                f"Give false for the image as {self.title} draws it, or leave it out.",
            )

    def check_image(self, image: InputImage, frame: Frame, operation: Operation | None = None) -> None:
        """Refuse an image (its size, its lack of a public URL) or a frame that this provider cannot extend.

        `operation` is what is to extend it, by default the usual one.

        Raises:
            UnsupportedFeatureError: the image or its place on the canvas lies outside the provider's limits.
            InvalidRequestError: the new image would be too large.
        """
        operation = operation or self.operations[SourceKind.IMAGE]
        if operation.frame is not None:
            operation.frame.check(self.title, frame)
        if operation.canvas is not None:
            operation.canvas.check(self.title, image, frame)

    def check_order(self, order: Order) -> None:  # noqa: B027 (most refuse nothing)
        """Refuse an order as it was resolved, before a task exists.

        Raises:
            OutpaintError: what is asked does not go together.
        """

    def normalised_options(self, options: Mapping[str, Any], arguments: ProviderArguments) -> dict[str, Any]:
        """`provider_options` as they are ordered: by default without a variant that is used for `arguments` anyway."""
        without = {name: value for name, value in options.items() if name != self.variant_option}
        if len(without) == len(options):
            return without
        named, usual = (self.operation(SourceKind.IMAGE, arguments, these) for these in (options, without))
        return without if named is usual else dict(options)

    def format_options(self, file_format: str | None) -> dict[str, Any]:
        """The options that ask for images in this file format, if the provider has a choice."""
        return {}

    def sends_zoom(self, request: OutpaintRequest) -> bool:
        """Whether `zoom` decides anything; where it does not, any is taken and it tells no orders apart."""
        return True

    def usd_for(self, order: Order) -> Mapping[StepName, float]:
        """The price in USD of each step of this very order, where it is known."""
        return self.usd

    def notes_for(self, request: OutpaintRequest, frame: Frame | None = None) -> tuple[str, ...]:
        """What the client should know of how this request is understood here. `frame` is that of an input image."""
        if frame is None or SourceKind.IMAGE not in self.operations:
            return ()
        sent = self.operation(SourceKind.IMAGE, request, request.provider_options).sent_frame(frame)
        if sent == frame:
            return ()
        return (
            f"The new image comes to {frame.canvas_width}x{frame.canvas_height} pixels; {self.title} is sent "
            f"{sent.canvas_width}x{sent.canvas_height}, with your image scaled from {frame.width}x{frame.height} to "
            f"{sent.width}x{sent.height}.",
        )

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        """Whether the provider can be asked to call `url` when an order on this kind of source is done."""
        return False

    async def called_back(self, headers: Mapping[str, str], body: bytes, token: str = "") -> str:
        """The `remote_id` that a callback is about, its signature checked where the provider signs.

        `token` is the secret that the order gave along (`Webhook.secret`), by which some sign.

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
    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        """Fetch the state of an order. May be repeated.

        `reference` is what an earlier answer about it named besides its id (`TaskUpdate.reference`).

        Raises:
            UnknownTaskError: the provider does not know the id (any more).
            OutpaintError: the state could not be fetched.
        """

    async def tidy(self) -> None:  # noqa: B027 - most keep nothing
        """Delete what it keeps on this machine and no longer needs; called a few times a day.

        Raises:
            OSError: it cannot be deleted.
        """


async def look_at(providers: Iterable[Provider]) -> None:
    """Have them all look at the same time, for `LOOK_SECONDS` at most."""
    with anyio.move_on_after(LOOK_SECONDS):
        async with anyio.create_task_group() as looking:
            for one in providers:
                looking.start_soon(one.look)


def _for(kind: SourceKind) -> str:
    return " for your own image" if kind is SourceKind.IMAGE else ""
