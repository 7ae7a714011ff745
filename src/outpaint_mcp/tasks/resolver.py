"""Decides what a request comes to: which provider, from which source, in which frame and steps. Pure: reads nothing.

The service calls `check` before anything is fetched, fetches the parent's record and the image, and calls `resolve`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotReadyError,
    OutpaintError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName, without_query
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import AUTO, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Status
from outpaint_mcp.images.sources import scheme_of
from outpaint_mcp.providers.base import Provider

MAX_OPTIONS_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Source:
    """What a request names, as it was found: the parent task, the image, or both where a task's image is handed on."""

    parent: Record | None = None
    image: InputImage | None = None


class Resolver:
    """Turns requests into orders.

    Args:
        providers: all of them by name.
        auto: the names of those that `auto` tries, in this order.
        may_leave: whether `auto` may hand a file or a ``data:`` image to a provider that is not on this machine.
        prices: the operator's prices in USD per order, by provider, in place of the providers' own.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        auto: Sequence[str],
        may_leave: bool,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        self._providers = providers
        self._auto = [providers[name] for name in auto if name in providers]
        self._may_leave = may_leave
        self._prices = prices or {}

    def check(self, request: OutpaintRequest) -> None:
        """Refuse what cannot be done whatever the source turns out to be.

        Raises:
            OutpaintError: with what to change.
        """
        if (request.task_id is None) == (request.image is None):
            raise InvalidRequestError("Give exactly one of task_id and image.")
        if _size_of(request.provider_options) > MAX_OPTIONS_BYTES:
            raise InvalidRequestError("provider_options is larger than 8 KB.")
        if request.provider != AUTO and request.provider not in self._providers:
            raise InvalidRequestError(
                f"There is no provider {request.provider[:60]!r}.", f"Use auto or one of {', '.join(self._providers)}."
            )
        if request.task_id is not None:
            if request.provider != AUTO and not request.task_id.startswith("op-"):
                # The provider's own id, which may have to be fetched and imported first.
                provider = self._providers[request.provider]
                if SourceKind.TASK in provider.operations:
                    self._check(provider, request, SourceKind.TASK)
                else:
                    self._check(provider, _as_image(request), SourceKind.IMAGE)
            return
        if request.image_index is not None:
            raise InvalidRequestError("image_index chooses an image of a task; it does not go with image.")
        if request.zoom == 1 and request.aspect_ratio is None:
            raise InvalidRequestError(
                "With zoom 1 and no aspect_ratio the image would not grow.", "Give a zoom above 1, or an aspect_ratio."
            )
        if request.provider != AUTO:
            self._check(self._providers[request.provider], request, SourceKind.IMAGE)
        elif not (able := self._able(request))[0]:
            raise self._nobody(able[1], stays=self._stays(request))

    def image_needed(self, request: OutpaintRequest, parent: Record) -> int | None:
        """Which image of the parent, from 1, must be read before `resolve`; None if the parent's id is enough.

        Raises:
            OutpaintError: the parent has no such image to extend.
        """
        provider, at = self._from_parent(request, parent)
        if self._extends_task(provider, parent):
            return None
        self._check(provider, _as_image(request), SourceKind.IMAGE)
        count = len(parent.task.images)
        if request.image_index is not None and at.index > count:
            raise InvalidRequestError(f"The task {parent.task.id} has {count} images; image_index is {at.index}.")
        return at.index

    def resolve(self, request: OutpaintRequest, source: Source) -> tuple[Order, tuple[str, ...]]:
        """The order that a request comes to, and what the client should know of how it was understood.

        Raises:
            OutpaintError: with what to change; nothing was sent anywhere.
        """
        if source.parent is None:
            if source.image is None:
                raise TypeError("a request without a source")
            provider = self._for_image(request, source.image)
            return self._order(request, provider, source.image), provider.notes_for(request)
        provider, parent = self._from_parent(request, source.parent)
        if not self._extends_task(provider, source.parent):
            if source.image is None:
                raise TypeError("the parent's image is needed")
            # Another provider's image, or one of a provider that takes no tasks: it is handed over like your own.
            self._check_image(provider, _as_image(request), source.image)
            return self._order(request, provider, source.image), provider.notes_for(request)
        self._check(provider, request, SourceKind.TASK)
        notes = provider.notes_for(request)
        order = self._order(request, provider, parent)
        if parent.is_grid and provider.needs_upscaled:
            order = replace(order, steps=(StepName.UPSCALE, StepName.OUTPAINT))
            notes = (*notes, self._upscale_note(provider, order, parent.index))
        return order, notes

    def _order(self, request: OutpaintRequest, provider: Provider, source: Parent | InputImage) -> Order:
        return Order(
            provider=provider.name,
            source=source,
            frame=_frame(request, source) if isinstance(source, InputImage) else None,
            zoom=float(request.zoom) if provider.sends_zoom(request) else None,
            **request.provider_arguments(),
            options=provider.normalised_options(
                {**provider.format_options(request.file_format), **request.provider_options}
            ),
            task_id=request.task_id,
            image=_shown_image(request.image, source),
            image_index=request.image_index,
            wants_webhook=request.webhook is not None,
            webhook=request.webhook,
        )

    def _from_parent(self, request: OutpaintRequest, record: Record) -> tuple[Provider, Parent]:
        """Who extends a task's image, and which image it is.

        Raises:
            OutpaintError: the task has no such image to extend.
        """
        task = record.task
        if task.status in (Status.QUEUED, Status.RUNNING, Status.UNKNOWN):
            raise NotReadyError(f"The task {task.id} is {task.status.value}, so there is no image to extend yet.")
        if task.status is not Status.SUCCEEDED:
            raise InvalidRequestError(f"The task {task.id} {task.status.value}: it has no image to extend.")
        is_grid = len(task.images) > 1 if record.is_grid is None else record.is_grid
        index = request.image_index
        if is_grid and index is None:
            raise InvalidRequestError(
                f"The task {task.id} has {len(task.images) or 4} images.", "Give image_index (from 1) to choose one."
            )
        if not is_grid and index not in (None, 1):
            raise InvalidRequestError(f"The task {task.id} has a single image, so image_index can only be 1.")
        provider = self._providers.get(task.provider if request.provider == AUTO else request.provider)
        if provider is None:
            raise ConfigurationError(f"The task's provider {task.provider!r} is not installed here.")
        return provider, Parent(task.remote_id or "", record.reference, index or 1, is_grid)

    @staticmethod
    def _extends_task(provider: Provider, parent: Record) -> bool:
        return provider.name == parent.task.provider and SourceKind.TASK in provider.operations

    def _for_image(self, request: OutpaintRequest, image: InputImage) -> Provider:
        """Who extends your own image.

        Raises:
            OutpaintError: nobody that is ready can, or not the one that was named.
        """
        if request.provider != AUTO:
            provider = self._providers[request.provider]
            self._check_image(provider, request, image)
            return provider
        able, refusals = self._able(request)
        stays = self._stays(request)
        frame = _frame(request, image)
        if stays:
            here = [one for one in able if not one.leaves_machine]
            others, _ = self._sift(able, lambda one: one.check_image(image, frame))
            if not here and others:
                names = " and ".join(one.name for one in others)
                raise UnsupportedFeatureError(
                    "No provider on this machine can do this, and a file or data: image leaves it only on purpose.",
                    f"Name a provider ({names} can do it), or have the operator set OUTPAINT_PROVIDERS.",
                )
            able = here
        able, more = self._sift(able, lambda one: one.check_image(image, frame))
        for provider in able:
            return provider
        raise self._nobody(more | refusals, stays=stays)

    def _stays(self, request: OutpaintRequest) -> bool:
        """Whether the image may not leave this machine unless a provider is named."""
        return not self._may_leave and scheme_of((request.image or "").strip()) not in ("http", "https")

    def _able(self, request: OutpaintRequest) -> tuple[list[Provider], dict[str, OutpaintError]]:
        """Those of `auto` that could do it whatever the image is, and why the others cannot."""
        able, refusals = self._sift(self._auto, lambda one: one.check(request, SourceKind.IMAGE))
        if self._stays(request):
            # Why another would not take an image that it never gets is no reason.
            refusals = {name: error for name, error in refusals.items() if not self._providers[name].leaves_machine}
        return able, refusals

    def _check(self, provider: Provider, request: OutpaintRequest, kind: SourceKind) -> None:
        """Refuse what the named provider cannot do, naming those that can."""
        try:
            provider.check(request, kind)
        except UnsupportedFeatureError as error:
            # A task belongs to its provider; another one can only take its image.
            asked = _as_image(request) if kind is SourceKind.TASK else request
            raise self._naming_others(error, provider, lambda one: one.check(asked, SourceKind.IMAGE)) from None
        if provider.needs:
            raise ConfigurationError(
                f"{provider.title} needs the environment variable {', '.join(provider.needs)}.",
                "Have the operator set it, or name another provider (list_providers shows who is ready).",
            )

    def _check_image(self, provider: Provider, request: OutpaintRequest, image: InputImage) -> None:
        """Refuse an image that the named provider cannot extend, naming those that can."""
        frame = _frame(request, image)

        def check(one: Provider) -> None:
            one.check(request, SourceKind.IMAGE)
            one.check_image(image, frame)

        try:
            provider.check_image(image, frame)
        except UnsupportedFeatureError as error:
            raise self._naming_others(error, provider, check) from None

    def _naming_others(
        self, error: UnsupportedFeatureError, provider: Provider, check: Callable[[Provider], None]
    ) -> UnsupportedFeatureError:
        able, _ = self._sift(self._providers.values(), check, configured=False)
        names = ", ".join(
            one.name + (f" (needs {', '.join(one.needs)})" if one.needs else "") for one in able if one is not provider
        )
        others = f"Providers that can: {names}." if names else "No provider here can do it; change the arguments."
        own = "" if error.advice == error.default_advice else f"{error.advice} "
        return UnsupportedFeatureError(error.message, own + others)

    @staticmethod
    def _sift(
        providers: Iterable[Provider], check: Callable[[Provider], None], *, configured: bool = True
    ) -> tuple[list[Provider], dict[str, OutpaintError]]:
        """Those that pass the check, and why the others do not."""
        able: list[Provider] = []
        refusals: dict[str, OutpaintError] = {}
        for provider in providers:
            try:
                check(provider)
                if configured and provider.needs:
                    raise ConfigurationError(f"{provider.title} could do it, but needs {', '.join(provider.needs)}.")
            except OutpaintError as error:
                refusals[provider.name] = error
            else:
                able.append(provider)
        return able, refusals

    def _nobody(self, refusals: Mapping[str, OutpaintError], *, stays: bool) -> OutpaintError:
        """One refusal out of many: a ready provider's about the values given, else all of them, each in a sentence.

        Args:
            refusals: by provider; of several about the values the first is taken.
            stays: whether the image may not leave this machine unless a provider is named.
        """
        for name, error in refusals.items():
            if isinstance(error, InvalidRequestError) and not self._providers[name].needs:
                return error
        reasons = " ".join(dict.fromkeys(error.message for error in refusals.values()))
        if stays:
            return UnsupportedFeatureError(
                f"No provider on this machine can do this. {reasons}".rstrip(),
                "Change the argument that is in the way, or name a provider that may have the image (list_providers "
                "shows who can).",
            )
        return UnsupportedFeatureError(
            f"No provider that is ready can do this. {reasons}",
            "Change the argument that is in the way, or have the operator set a key (list_providers shows who can).",
        )

    def _upscale_note(self, provider: Provider, order: Order, index: int) -> str:
        usd = self._prices.get(provider.name, provider.usd_for(order).get(StepName.UPSCALE))
        price = f"about ${usd:g}" if usd is not None else f"see the price: {provider.price}"
        return (
            f"{provider.title} extends upscaled images only: image {index} is upscaled first, as a paid step ({price})."
        )


def _as_image(request: OutpaintRequest) -> OutpaintRequest:
    """The request as it is made of a provider that gets the task's image and not the task."""
    return replace(request, image_index=None)


def _frame(request: OutpaintRequest, image: InputImage) -> Frame:
    """The geometry of the new image.

    Raises:
        InvalidRequestError: it would be no larger.
    """
    frame = Frame.around(image.width, image.height, zoom=request.zoom, aspect_ratio=request.aspect_ratio)
    if not frame.grows:
        raise InvalidRequestError(
            f"The new image would be no larger than the old one ({image.width}x{image.height}).",
            "Give a zoom above 1, or another aspect_ratio.",
        )
    return frame


def _shown_image(image: str | None, source: Parent | InputImage) -> str | None:
    """The `image` that was given, fit to be shown: no data, no query of a URL."""
    if image is None or not isinstance(source, InputImage):
        return None
    image = image.strip()
    if scheme_of(image) == "data":
        return f"data:{source.mime_type};sha256={source.sha256}"
    return image if source.url is None else without_query(image)


def _size_of(options: Mapping[str, Any]) -> int:
    """How many bytes the options are as compact JSON.

    Raises:
        InvalidRequestError: they cannot be written as JSON.
    """
    try:
        return len(json.dumps(dict(options), ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequestError("provider_options must be what JSON can say.") from None
