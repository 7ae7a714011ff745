"""Decides what a request comes to: which provider, from which source, in which frame and steps. Pure: reads nothing.

The service calls `check` before anything is fetched, fetches the parent's record and the image, and calls `resolve`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotReadyError,
    OutpaintError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName, without_query
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import AUTO, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Status
from outpaint_mcp.images.sources import scheme_of
from outpaint_mcp.providers.base import KEEP_ORIGINAL, Provider
from outpaint_mcp.providers.request_checks import JSON_VALUES, NOT_JSON
from outpaint_mcp.tasks.checks import (
    as_image,
    by_own_id,
    check_growth,
    check_own_image,
    check_task,
    check_usual_images,
    checking,
    frame_of,
    no_zoom,
)
from outpaint_mcp.tasks.ways_out import Check, least_left_out, left_out, listed, named, sift

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
        may_leave: whether `auto` may hand a file or a ``data:`` image to a provider that is not the operator's own.
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
            raise InvalidRequestError(
                "Give exactly one of task_id and image.", "task_id extends a finished task, image an image of your own."
            )
        if _size_of(request.provider_options) > MAX_OPTIONS_BYTES:
            raise InvalidRequestError(
                "provider_options is larger than 8 KB.", "Leave out what the provider can do without."
            )
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
                    self._check(provider, as_image(request), SourceKind.IMAGE)
            return
        if request.image_index is not None:
            raise InvalidRequestError(
                "image_index chooses an image of a task; it does not go with image.", "Leave image_index out."
            )
        check_growth(request)
        if request.provider != AUTO:
            self._check(self._providers[request.provider], request, SourceKind.IMAGE)
            return
        able, refusals = sift(self._auto, request, check_own_image)
        if all(one.needs for one in able):
            raise self._nobody(request, able, refusals, check_usual_images)

    def image_needed(self, request: OutpaintRequest, parent: Record) -> int | None:
        """Which image of the parent, from 1, must be read before `resolve`; None if the parent's id is enough.

        Raises:
            OutpaintError: the parent has no such image to extend.
        """
        provider, at = self._from_parent(request, parent)
        if self._extends_task(provider, parent):
            return None
        self._check(provider, as_image(request, parent), SourceKind.IMAGE)
        count = len(parent.task.images)
        if request.image_index is not None and at.index > count:
            raise InvalidRequestError(
                f"The task {parent.task.id} has {count} images; image_index is {at.index}.",
                f"Give image_index 1 to {count}.",
            )
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
            order = self._order(request, provider, source.image)
            return order, provider.notes_for(request, order.frame)
        provider, parent = self._from_parent(request, source.parent)
        if not self._extends_task(provider, source.parent):
            if source.image is None:
                raise TypeError("the parent's image is needed")
            # Another provider's image, or one of a provider that takes no tasks: it is handed over like your own.
            self._check_image(provider, as_image(request, source.parent), source.image)
            order = self._order(request, provider, source.image)
            return order, provider.notes_for(request, order.frame)
        self._check(provider, request, SourceKind.TASK, source.parent)
        if source.parent.zooms is False and provider.sends_zoom(request):
            asked = as_image(request, source.parent)
            raise self._naming_others(no_zoom(provider), provider, asked, check_usual_images, ())
        notes = provider.notes_for(request)
        order = self._order(request, provider, parent)
        if parent.is_grid and provider.needs_upscaled:
            order = replace(order, steps=(StepName.UPSCALE, StepName.OUTPAINT))
            notes = (*notes, self._upscale_note(provider, order, parent.index))
        return order, notes

    def _order(self, request: OutpaintRequest, provider: Provider, source: Parent | InputImage) -> Order:
        options = {**provider.format_options(request.file_format), **request.provider_options}
        if options.get(KEEP_ORIGINAL) is True:
            # As it is without: no other order.
            del options[KEEP_ORIGINAL]
        order = Order(
            provider=provider.name,
            source=source,
            frame=frame_of(request, source) if isinstance(source, InputImage) else None,
            zoom=float(request.zoom) if provider.sends_zoom(request) else None,
            **request.provider_arguments(),
            options=provider.normalised_options(options, request),
            task_id=request.task_id,
            image=_shown_image(request.image, source),
            image_index=request.image_index,
            wants_webhook=request.webhook is not None,
            webhook=request.webhook,
        )
        provider.check_order(order)
        return order

    def _from_parent(self, request: OutpaintRequest, record: Record) -> tuple[Provider, Parent]:
        """Who extends a task's image, and which image it is.

        Raises:
            OutpaintError: the task has no such image to extend.
        """
        task = record.task
        if task.status in (Status.QUEUED, Status.RUNNING, Status.UNKNOWN):
            raise NotReadyError(f"The task {task.id} is {task.status.value}, so there is no image to extend yet.")
        if task.status is not Status.SUCCEEDED:
            raise InvalidRequestError(
                f"The task {task.id} {task.status.value}: it has no image to extend.", "Give a task that succeeded."
            )
        is_grid = len(task.images) > 1 if record.is_grid is None else record.is_grid
        index = request.image_index
        if is_grid and index is None:
            raise InvalidRequestError(
                f"The task {task.id} has {len(task.images) or 4} images.", "Give image_index (from 1) to choose one."
            )
        if not is_grid and index not in (None, 1):
            raise InvalidRequestError(
                f"The task {task.id} has a single image, so image_index can only be 1.", "Leave image_index out."
            )
        provider = self._providers.get(task.provider if request.provider == AUTO else request.provider)
        if provider is None:
            raise ConfigurationError(
                f"The task's provider {task.provider!r} is not installed here.",
                "Have the operator install its plug-in.",
            )
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
        check = checking(image)
        able, refusals = sift(self._auto, request, check)
        stays = self._stays(request)
        for one in able:
            if not (one.needs or (stays and one.leaves_owner)):
                return one
        raise self._nobody(request, able, refusals, check)

    def _nobody(
        self, request: OutpaintRequest, able: list[Provider], refusals: Mapping[str, OutpaintError], check: Check
    ) -> OutpaintError:
        """The refusal of a request that `auto` finds nobody for.

        Args:
            request: what is asked for.
            able: those of `auto` that could do it, were they ready or might they have the image.
            refusals: why the others cannot, by provider.
            check: whether a provider can be named as able.
        """
        stays = self._stays(request)
        if stays:
            # Why another would not take an image that it never gets is no reason.
            refusals = {name: error for name, error in refusals.items() if not self._providers[name].leaves_owner}
        for name, error in refusals.items():
            if isinstance(error, InvalidRequestError) and not self._providers[name].needs:
                # The values given are wrong; of several such reasons the first is told.
                return error
        reasons = [*dict.fromkeys(error.message for error in refusals.values())]
        if any(not one.needs for one in able):
            reasons.append("A file or data: image leaves this machine only on purpose.")
        where = "No provider on this machine" if stays else "No provider that is ready and that auto tries"
        return UnsupportedFeatureError(f"{where} can do this. {' '.join(reasons)}", self._ways_out(request, check))

    def _ways_out(self, request: OutpaintRequest, check: Check) -> str:
        """What to do about a request that `auto` finds nobody for."""
        stays = self._stays(request)
        ways = []
        free = [one for one in self._auto if not one.needs and not (stays and one.leaves_owner)]
        provider, names = least_left_out(free, request, check)
        if provider is not None:
            where = "" if provider.leaves_machine else " on this machine"
            ways.append(f"leave {listed(names)} out: then {provider.name} can do it{where}")
        able, _ = sift(self._providers.values(), request, check)
        if ready := [one for one in able if not one.needs]:
            ways.append(f"name a provider ({listed(one.name for one in ready)} can do it)")
        if keyless := [one for one in able if one.needs]:
            ways.append(f"have the operator set a key and name its provider: {named(keyless)}")
        told = "; or ".join(ways) or "change the argument that is in the way (list_providers shows the limits)"
        return f"{told[0].upper()}{told[1:]}."

    def _stays(self, request: OutpaintRequest) -> bool:
        """Whether the image may not leave this machine unless a provider is named."""
        return not self._may_leave and scheme_of((request.image or "").strip()) not in ("http", "https")

    def _check(
        self, provider: Provider, request: OutpaintRequest, kind: SourceKind, parent: Record | None = None
    ) -> None:
        """Refuse what the named provider cannot do, naming those that can."""
        # A task belongs to its provider; another one can only take its image.
        asked = as_image(request, parent) if kind is SourceKind.TASK else request
        possible, sure = (check_own_image, check_usual_images) if kind is SourceKind.IMAGE else (check_task, check_task)
        try:
            possible(provider, request)
        except UnsupportedFeatureError as error:
            names = left_out(provider, request, kind, sure)
            raise self._naming_others(error, provider, asked, check_usual_images, names) from None
        if provider.needs:
            others = [one for one in self._providers.values() if not one.needs]
            able, _ = sift(others, asked, check_usual_images)
            other, names = least_left_out(others, asked, check_usual_images)
            advice = "Have the operator set it"
            if able:
                advice += f", or name a provider that is ready{by_own_id(request)} ({listed(o.name for o in able)})"
            elif other is not None:
                advice += f", or leave {listed(names)} out and name {other.name}{by_own_id(request)}"
            raise ConfigurationError(
                f"{provider.title} needs the environment variable {', '.join(provider.needs)}.", f"{advice}."
            )

    def _check_image(self, provider: Provider, request: OutpaintRequest, image: InputImage) -> None:
        """Refuse an image that the named provider cannot extend, naming those that can."""
        check = checking(image)
        try:
            check(provider, request)
        except UnsupportedFeatureError as error:
            names = left_out(provider, request, SourceKind.IMAGE, check)
            raise self._naming_others(error, provider, request, check, names) from None

    def _naming_others(
        self,
        error: UnsupportedFeatureError,
        provider: Provider,
        request: OutpaintRequest,
        check: Check,
        names: tuple[str, ...],
    ) -> UnsupportedFeatureError:
        """The refusal of a named provider with the ways out of it: `names`, to be left out; and the others that can."""
        able, _ = sift((one for one in self._providers.values() if one is not provider), request, check)
        ways = [] if error.advice == error.default_advice else [error.advice]
        if names:
            ways.append(f"Leave {listed(names)} out.")
        if able:
            ways.append(f"Providers that can{by_own_id(request)}: {named(able)}.")
        elif not ways:
            ways.append("Change the arguments (list_providers shows the limits).")
        return UnsupportedFeatureError(error.message, " ".join(ways))

    def _upscale_note(self, provider: Provider, order: Order, index: int) -> str:
        usd = self._prices.get(provider.name, provider.usd_for(order).get(StepName.UPSCALE))
        price = f"about ${usd:g}" if usd is not None else f"see the price: {provider.price}"
        return (
            f"{provider.title} extends upscaled images only: image {index} is upscaled first, as a paid step ({price})."
        )


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
        raise InvalidRequestError(NOT_JSON, JSON_VALUES) from None
