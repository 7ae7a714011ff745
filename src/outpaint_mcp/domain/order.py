"""What is ordered: one outpaint, resolved, as it is stored and sent; and the identity by which a repeat is known."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import TypeAdapter

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.request import AspectRatio, ProviderArguments, SourceKind, Webhook, folded

VERSION: Final = 2
"""Of a stored order. Version 1 had no number, no frame and no provider."""


class StepName(StrEnum):
    UPSCALE = "upscale"
    OUTPAINT = "outpaint"


@dataclass(frozen=True, slots=True)
class Parent:
    """A finished task's image as the source.

    `reference` is what the vendor wants named, where that is not `remote_id` (Vtrix's remote job id, from the parent's
    own answer). `index` is 1-4 on a grid and 1 on a single image. `is_grid` is None where the answer did not tell.
    """

    kind: ClassVar = SourceKind.TASK
    NOT_IDENTITY: ClassVar = frozenset({"reference", "is_grid"})

    remote_id: str
    reference: str | None = None
    index: int = 1
    is_grid: bool | None = None


@dataclass(frozen=True, slots=True)
class InputImage:
    """Your own image as the source, read, checked and measured. Width and height in pixels, as displayed.

    `path` is where the bytes lie that a provider may read, while its order is sent: of the image itself on this
    machine, of a clean copy for a vendor that they are uploaded to, and else nowhere. It is never stored. `url` is the
    public http(s) URL that the image came from, or None for a file or a ``data:`` URI; its query may hold secrets, so
    it lives in memory only. `size` is in bytes, without what the file holds besides the image, or 0 where nobody
    counted them. `mask` is the path of a mask that was drawn to be sent along.
    """

    kind: ClassVar = SourceKind.IMAGE
    NOT_IDENTITY: ClassVar = frozenset({"mime_type", "width", "height", "path", "url", "size", "mask"})

    sha256: str
    mime_type: str
    width: int
    height: int
    path: str = ""
    url: str | None = field(default=None, repr=False)
    size: int = 0
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Order(ProviderArguments):
    """One outpaint as it is ordered of one provider. Everything is resolved and known to be possible.

    For an input image `frame` is the geometry, and `zoom`, `aspect_ratio` and `sides` only say how it was asked for;
    for a task's image the first two are sent. `zoom` is None where the provider does not send it. `options` are
    normalised.

    `task_id`, `image` and `image_index` are how the source was named, fit to be shown: no data, no query of a URL.
    `key`, `client`, `step` and `webhook` are of one request to the vendor: see `for_step`.
    """

    NOT_IDENTITY: ClassVar = frozenset(
        {"task_id", "image", "image_index", "steps", "speed", "wants_webhook", "webhook", "key", "client", "step"}
    )
    """The fields that do not change the image. Every other one, also one added later, tells orders apart."""
    NOT_IDENTITY_OPTIONS: ClassVar = frozenset({"metadata"})
    NOT_STORED: ClassVar = frozenset({"webhook", "key", "client", "step"})
    """What belongs to one request, or is secret."""

    provider: str
    source: Parent | InputImage
    frame: Frame | None = None
    zoom: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[StepName, ...] = (StepName.OUTPAINT,)
    task_id: str | None = None
    image: str | None = None
    image_index: int | None = None
    wants_webhook: bool = False
    webhook: Webhook | None = None
    key: str = ""
    client: str = ""
    step: StepName = StepName.OUTPAINT

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat: a webhook's secret and query, the query of an image's URL."""
        secrets = self.webhook.secrets if self.webhook else ()
        if isinstance(self.source, InputImage) and self.source.url:
            secrets += (self.source.url.partition("?")[2],)
        return tuple(found for found in secrets if found)

    def identity(self, client: str) -> str:
        """A hash that is equal for two orders that would make the same image for the same client.

        What holds its default is left out: a field that is added later gives no older order another identity. Any other
        change of what is hashed wants `rehash` once more at the end of the store's migrations.
        """
        fields = _without(_adapter(type(self)).dump_python(self, mode="json", exclude_defaults=True), self.NOT_IDENTITY)
        fields["source"] = _without(fields["source"], self.source.NOT_IDENTITY)
        fields["options"] = _without(self.options, self.NOT_IDENTITY_OPTIONS)
        if self.prompt is not None:
            fields["prompt"] = folded(self.prompt)
        if self.frame is not None:
            # The same frame written in two ways is one order.
            fields = _without(fields, {"zoom", "aspect_ratio", "sides"})
        return _hash({"client": client, **fields})

    def source_hash(self, client: str) -> str | None:
        """A hash of the URL that names the source, exactly as it was given; None where the bytes alone name it.

        The bytes behind a URL can be others each time it is fetched, though nobody meant another image: a proxy encodes
        them anew, a stamp is written into them, the URL expires. Within the time in which a repeat counts, a URL
        therefore stands for every image that it has given (`of_image`). A file or a ``data:`` URI with other bytes is
        another image: its owner changed it. A task's image never changes, whatever its URL gives.
        """
        return url_hash(client, self.source.url) if isinstance(self.source, InputImage) and self.source.url else None

    def of_image(self, image: InputImage) -> Self:
        """The same order of another image.

        Raises:
            InvalidRequestError: an image of that shape cannot be extended so (`Frame.around`).
        """
        frame = self.frame
        if frame is not None and self.zoom is not None and (image.width, image.height) != (frame.width, frame.height):
            frame = Frame.around(
                image.width, image.height, zoom=self.zoom, aspect_ratio=self.aspect_ratio, sides=self.sides
            )
        return replace(self, source=image, frame=frame)

    def shown(self) -> dict[str, Any]:
        """The order as `Task.request` shows it: under the arguments' names, what was not given left out."""
        webhook = self.webhook
        arguments = {
            "task_id": self.task_id,
            "image": self.image,
            "provider": self.provider,
            "image_index": self.image_index,
            "zoom": self.zoom,
            **self.provider_arguments(),
            "aspect_ratio": str(self.aspect_ratio) if self.aspect_ratio else None,
            "sides": list(self.sides) if self.sides else None,
            "webhook_url": without_query(webhook.url) if webhook and webhook.url else None,
            "webhook_events": list(webhook.events) if webhook and webhook.events else None,
            "provider_options": dict(self.options) or None,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def for_step(
        self, step: StepName, *, key: str, client: str, source: Parent | InputImage, webhook: Webhook | None
    ) -> Self:
        """The order as one request to the vendor asks for it.

        Args:
            step: which of `steps`.
            key: unique to this step of this task, and the same if it is sent again.
            client: whose order it is; the vendor is not told.
            source: what is extended now: after an upscale, its result.
            webhook: whom the vendor is to call for this step.
        """
        return replace(self, step=step, key=key, client=client, source=source, webhook=webhook)

    def to_stored(self) -> dict[str, Any]:
        """The order as JSON: no webhook, no URL, no path of this machine."""
        stored = _without(_adapter(type(self)).dump_python(self, mode="json"), self.NOT_STORED)
        stored["source"] = _without(stored["source"], {"path", "url", "mask"})
        return {"version": VERSION, **stored}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], *, provider: str) -> Self:
        """The order that was stored; what a field added since would hold is its default.

        Args:
            stored: what `to_stored` gave, in this version or an earlier one.
            provider: whose order it is, which version 1 did not say.

        Raises:
            ValueError: it is no stored order.
        """
        found = dict(stored)
        if "version" not in found:
            # Version 1 kept a path of the machine and the URL, and the frame was worked out when it was sent.
            found |= {"provider": provider, "wants_webhook": found.pop("webhook", False)}
            found["source"] = _without(found["source"], {"path", "url"})
            found["aspect_ratio"] = ratio = found["aspect_ratio"] and AspectRatio.parse(found["aspect_ratio"])
            if provider == "apimart" and found["options"].get("custom_id"):
                # Version 1 kept a zoom that was not sent: the button decides.
                found["zoom"] = None
            if "sha256" in found["source"]:
                width, height = found["source"]["width"], found["source"]["height"]
                found["frame"] = Frame.around(width, height, zoom=found["zoom"], aspect_ratio=ratio)
        order: Self = _adapter(cls).validate_python(found)
        return order


# Built when it is first needed: it takes milliseconds, and listing the tools needs none.
_adapter: Final[Callable[[Any], TypeAdapter[Any]]] = functools.cache(lambda kind: TypeAdapter(kind))


def _without(fields: Mapping[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def url_hash(client: str, url: str) -> str:
    """What a store holds of the URL of an input image, whose query may be secret."""
    return _hash({"client": client, "url": url})


def without_query(url: str) -> str:
    """The URL without its query, fragment and user name."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
