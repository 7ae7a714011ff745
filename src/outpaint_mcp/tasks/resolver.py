"""How a call is understood: which provider does it, from which source, in which steps. Orders nothing, writes nothing.

A task that is named by the provider's own id may have to be looked up first; that is handed in as `find_task`.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotReadyError,
    OutpaintError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import AUTO, AspectRatio, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.images.sources import scheme_of
from outpaint_mcp.providers.base import Provider

MAX_OPTIONS_BYTES = 8192

FindTask = Callable[[str, str], Awaitable[Record]]
"""Task id and provider name (or "auto") to the task's record; raises UnknownTaskError."""
ReadPicture = Callable[[str], Awaitable[InputImage]]
"""What the client gave as `image` to the picture, checked and measured."""
ImageOf = Callable[[Record, int], Awaitable[InputImage]]
"""A finished task and an image's index to that image as a picture of one's own."""


@dataclass(frozen=True, slots=True)
class Understood:
    """A call that can be ordered."""

    request: OutpaintRequest
    provider: Provider
    source: Parent | InputImage
    steps: tuple[StepName, ...]
    notes: tuple[str, ...] = ()

    def order_hash(self, client: str) -> str:
        """The identity of the order: equal for two calls that would make the same picture for the same client."""
        source = self.source
        named = [source.remote_id, source.index] if isinstance(source, Parent) else [source.sha256]
        request = self.request
        identity = {
            "client": client,
            "provider": self.provider.name,
            "source": named,
            "zoom": float(request.zoom) if self.provider.sends_zoom(request) else None,
            "aspect_ratio": str(request.aspect_ratio) if request.aspect_ratio else None,
            "prompt": request.prompt,
            "options": self.provider.identity_options(request.provider_options),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def plan(self) -> dict[str, Any]:
        """The order as it may be stored: no webhook, no query of a URL."""
        source: dict[str, Any]
        if isinstance(self.source, Parent):
            source = {
                "remote_id": self.source.remote_id,
                "reference": self.source.reference,
                "index": self.source.index,
                "is_grid": self.source.is_grid,
            }
        else:
            source = {
                "sha256": self.source.sha256,
                "mime_type": self.source.mime_type,
                "width": self.source.width,
                "height": self.source.height,
                "path": self.source.path,
                "url": without_query(self.source.url) if self.source.url else None,
            }
        request = self.request
        return {
            "source": source,
            "zoom": request.zoom,
            "aspect_ratio": str(request.aspect_ratio) if request.aspect_ratio else None,
            "prompt": request.prompt,
            "speed": request.speed,
            "options": dict(request.provider_options),
            "webhook": request.webhook is not None,
        }

    def echo(self) -> dict[str, Any]:
        """The request as it was understood, for the client to read: no data, no secret, no query of a URL."""
        request = self.request
        image = request.image
        if image is not None and isinstance(self.source, InputImage):
            image = image.strip()
            if scheme_of(image) == "data":
                image = f"data:{self.source.mime_type};sha256={self.source.sha256}"
            elif self.source.url is not None:
                image = without_query(image)
        shown = {
            "task_id": request.task_id,
            "image": image,
            "provider": self.provider.name,
            "image_index": request.image_index,
            "zoom": request.zoom,
            "aspect_ratio": str(request.aspect_ratio) if request.aspect_ratio else None,
            "prompt": request.prompt,
            "speed": request.speed,
            "webhook_url": without_query(request.webhook.url) if request.webhook and request.webhook.url else None,
            "webhook_events": list(request.webhook.events) if request.webhook and request.webhook.events else None,
            "provider_options": dict(request.provider_options) or None,
        }
        return {name: value for name, value in shown.items() if value is not None}


def order_from_plan(plan: Mapping[str, Any], *, key: str, step: StepName, webhook: Webhook | None) -> Order:
    """The order that `Understood.plan` wrote down, as it is sent for one step."""
    source = plan["source"]
    return Order(
        key=key,
        step=step,
        source=Parent(**source) if "remote_id" in source else InputImage(**source),
        zoom=plan["zoom"],
        aspect_ratio=AspectRatio.parse(plan["aspect_ratio"]) if plan["aspect_ratio"] else None,
        prompt=plan["prompt"],
        speed=plan["speed"],
        webhook=webhook,
        options=plan["options"],
    )


def without_query(url: str) -> str:
    """The URL without its query, fragment and user name."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Resolver:
    """Understands calls.

    Args:
        providers: all of them by name.
        auto: the names of those that `auto` tries, in this order.
        may_leave: whether `auto` may hand a file or a ``data:`` picture to a provider that is not on this machine.
        prices: the operator's prices in USD per order, by provider, in place of the providers' own.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        auto: Sequence[str],
        may_leave: bool,
        find_task: FindTask,
        read_image: ReadPicture,
        image_of: ImageOf,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        self._providers = providers
        self._auto = [providers[name] for name in auto if name in providers]
        self._may_leave = may_leave
        self._find_task = find_task
        self._read_picture = read_image
        self._image_of = image_of
        self._prices = prices or {}

    async def understand(self, request: OutpaintRequest) -> Understood:
        """Decide who extends what, and refuse what cannot be done.

        Raises:
            OutpaintError: with what to change; nothing was sent anywhere (a picture's URL may have been read).
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
            return await self._from_task(request, request.task_id)
        if request.image_index is not None:
            raise InvalidRequestError("image_index chooses an image of a task; it does not go with image.")
        return await self._from_picture(request)

    async def _from_task(self, request: OutpaintRequest, task_id: str) -> Understood:
        if request.provider != AUTO and not task_id.startswith("op-"):
            # Its own id may have to be asked for and taken in first: not for what is refused whatever the answer is.
            named = self._providers[request.provider]
            if SourceKind.TASK in named.features:
                self._check(named, request, SourceKind.TASK)
            else:
                self._check(named, replace(request, image_index=None), SourceKind.IMAGE)
        record = await self._find_task(task_id, request.provider)
        task = record.task
        if task.status in (Status.QUEUED, Status.RUNNING, Status.UNKNOWN):
            raise NotReadyError(f"The task {task.id} is {task.status.value}, so there is no picture to extend yet.")
        if task.status is not Status.SUCCEEDED:
            raise InvalidRequestError(f"The task {task.id} {task.status.value}: it has no picture to extend.")
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
        if provider.name == task.provider and SourceKind.TASK in provider.features:
            self._check(provider, request, SourceKind.TASK)
            steps: tuple[StepName, ...] = (StepName.OUTPAINT,)
            notes = provider.notes_for(request)
            if is_grid and provider.needs_upscaled:
                steps = (StepName.UPSCALE, StepName.OUTPAINT)
                notes = (*notes, self._upscale_note(provider, request, index or 1))
            parent = Parent(task.remote_id or "", record.reference, index or 1, is_grid)
            return Understood(request, provider, parent, steps, notes)
        # Another provider's image, or one of a provider that takes no tasks: it is handed over as an own picture.
        as_picture = replace(request, image_index=None)
        self._check(provider, as_picture, SourceKind.IMAGE)
        if index is not None and index > len(task.images):
            raise InvalidRequestError(f"The task {task.id} has {len(task.images)} images; image_index is {index}.")
        picture = await self._image_of(record, index or 1)
        self._check_picture(provider, as_picture, picture)
        return Understood(request, provider, picture, (StepName.OUTPAINT,), provider.notes_for(request))

    async def _from_picture(self, request: OutpaintRequest) -> Understood:
        if request.provider != AUTO:
            provider = self._providers[request.provider]
            self._check(provider, request, SourceKind.IMAGE)
            picture = await self._read_picture(request.image or "")
            self._check_picture(provider, request, picture)
            return Understood(request, provider, picture, (StepName.OUTPAINT,), provider.notes_for(request))
        # Whoever cannot do it whatever the picture is, is left out before the picture is read.
        able, refusals = self._sift(self._auto, lambda one: one.check(request, SourceKind.IMAGE))
        stays = not self._may_leave and scheme_of((request.image or "").strip()) not in ("http", "https")
        if stays:
            # Why another would not take a picture that it never gets is no reason.
            refusals = {name: error for name, error in refusals.items() if not self._providers[name].leaves_machine}
        if not able:
            raise self._nobody(refusals, stays=stays)
        picture = await self._read_picture(request.image or "")
        if stays:
            kept_here = [one for one in able if not one.leaves_machine]
            others, _ = self._sift(able, lambda one: one.check_image(request, picture))
            if not kept_here and not others:
                raise self._nobody(refusals, stays=True)
            if not kept_here:
                names = " and ".join(one.name for one in others)
                raise UnsupportedFeatureError(
                    "No provider on this machine can do this, and a file or data: picture leaves it only on purpose.",
                    f"Name a provider ({names} can do it), or have the operator set OUTPAINT_PROVIDERS.",
                )
            able = kept_here
        able, more = self._sift(able, lambda one: one.check_image(request, picture))
        for provider in able:
            return Understood(request, provider, picture, (StepName.OUTPAINT,), provider.notes_for(request))
        raise self._nobody(more | refusals, stays=stays)

    def _check(self, provider: Provider, request: OutpaintRequest, kind: SourceKind) -> None:
        """Refuse what the named provider cannot do, naming those that can."""
        try:
            provider.check(request, kind)
        except UnsupportedFeatureError as error:
            # A task belongs to its provider; another one can only take its image.
            asked = replace(request, image_index=None) if kind is SourceKind.TASK else request
            raise self._naming_others(error, provider, lambda one: one.check(asked, SourceKind.IMAGE)) from None
        if provider.needs:
            raise ConfigurationError(
                f"{provider.title} needs the environment variable {', '.join(provider.needs)}.",
                "Have the operator set it, or name another provider (list_providers shows who is ready).",
            )

    def _check_picture(self, provider: Provider, request: OutpaintRequest, picture: InputImage) -> None:
        """Refuse a picture that the named provider cannot extend, naming those that can."""

        def check(one: Provider) -> None:
            one.check(request, SourceKind.IMAGE)
            one.check_image(request, picture)

        try:
            provider.check_image(request, picture)
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
            stays: whether the picture may not leave this machine unless a provider is named.
        """
        for name, error in refusals.items():
            if isinstance(error, InvalidRequestError) and not self._providers[name].needs:
                return error
        reasons = " ".join(dict.fromkeys(error.message for error in refusals.values()))
        if stays:
            return UnsupportedFeatureError(
                f"No provider on this machine can do this. {reasons}".rstrip(),
                "Change the argument that is in the way, or name a provider that may have the picture (list_providers "
                "shows who can).",
            )
        return UnsupportedFeatureError(
            f"No provider that is ready can do this. {reasons}",
            "Change the argument that is in the way, or have the operator set a key (list_providers shows who can).",
        )

    def _upscale_note(self, provider: Provider, request: OutpaintRequest, index: int) -> str:
        usd = self._prices.get(provider.name, provider.usd_for(request).get(StepName.UPSCALE))
        price = f"about ${usd:g}" if usd is not None else f"see the price: {provider.price}"
        return (
            f"{provider.title} extends upscaled images only: image {index} is upscaled first, as a paid step ({price})."
        )


def _size_of(options: Mapping[str, Any]) -> int:
    """How many bytes the options are as compact JSON.

    Raises:
        InvalidRequestError: they cannot be written as JSON.
    """
    try:
        return len(json.dumps(dict(options), ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequestError("provider_options must be what JSON can say.") from None


def default_roots(home: Path, data_dir: Path, working: Path) -> tuple[Path, ...]:
    """Where `image` paths may lie on stdio: home, the data, and the working folder where it is a project's."""
    roots = [home, data_dir]
    if working != Path(working.anchor) and not home.is_relative_to(working):
        roots.append(working)
    return tuple(roots)
