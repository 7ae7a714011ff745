"""What a provider declares of itself: per kind of source, each argument with its limits and the field that carries it.

From these declarations follow the request's body, the options that are reserved, the refusal of what is not declared,
what `list_providers` and the README say, and the contract tests.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent
from outpaint_mcp.domain.request import MAX_ZOOM, MIN_ZOOM, Feature, SourceKind, Webhook
from outpaint_mcp.providers.canvas_limits import CanvasLimits


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that a provider honours.

    Args:
        limits: what it may be, in words; by default its `values`.
        wire: the field of the body that carries it, with dots for fields within fields; after a ``?`` a parameter of
            the URL; empty where it travels another way (in the frame's fields, or as the client's own fields).
        encode: our value to the vendor's.
        required: whether the provider needs it.
        check: raises InvalidRequestError for a value of ours that must not be sent.
        values: the only ones that it may have, if not any.
    """

    limits: str = ""
    wire: str = ""
    encode: Callable[[Any], Any] = _as_it_is
    required: bool = False
    check: Callable[[Any], None] = _as_it_is
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Zoom:
    """The zooms that a provider honours: a closed range, or single `values`. `wire` and `encode` as of `Argument`."""

    low: float = MIN_ZOOM
    high: float = MAX_ZOOM
    values: tuple[float, ...] = ()
    wire: str = ""
    encode: Callable[[Any], Any] = _as_it_is

    def allows(self, zoom: float) -> bool:
        return zoom in self.values if self.values else self.low <= zoom <= self.high

    def __str__(self) -> str:
        if self.values:
            *most, last = (f"{value:g}" for value in self.values)
            return f"{', '.join(most)} or {last}" if most else last
        return f"{self.low:g} to {self.high:g}"


CheckFrame = Callable[[str, Frame], None]
"""Given the provider's title and a frame, raises UnsupportedFeatureError for one that cannot be painted."""


def any_frame(title: str, frame: Frame) -> None:
    """Every frame can be painted."""


@dataclass(frozen=True, slots=True)
class FrameFields:
    """How a vendor is told where an input image lies on its canvas.

    Args:
        write: the fields that place it, from the frame as it is sent; names with dots are fields within fields.
        wires: the names of those fields.
        check: refuses a frame that cannot be painted.
    """

    write: Callable[[Frame], Mapping[str, Any]]
    wires: tuple[str, ...]
    check: CheckFrame = any_frame

    def placing(self, order: Order) -> Mapping[str, Any]:
        """The fields that place an order's input image.

        Raises:
            TypeError: the source is a task's image, which has no frame.
        """
        if order.frame is None:
            raise TypeError("an order for a task's image has no frame")
        return self.write(order.frame)


@dataclass(frozen=True, slots=True)
class Operation:
    """How a provider extends one kind of source, or upscales an image of a grid.

    Args:
        path: where the order is POSTed, below the base URL; empty for a provider that does not speak HTTP.
        source: the field that names the source: a parent by `encode` (its `remote_id` unless said otherwise), an input
            image by its URL, which is a ``data:`` URI where the bytes are sent.
        zoom: the zooms that it honours.
        arguments: the other arguments that it honours; what is not here is refused.
        constants: fields that always hold the same.
        frame: for an input image, the fields that place it.
        max_url: where the vendor takes an input image only by a public URL, the most characters that this may have.
        max_bytes: the largest file that the vendor takes as an input image, as it is sent.
        takes_url: whether the vendor fetches an input image from a public URL, besides taking its bytes.
        canvas: what canvases the vendor paints.
        multipart: whether the order is a form, in which the input image is a file.
        options_in: the field of the body, an object, that the client's options belong into; empty for the body itself.
        mask: the field of a form for a PNG as large as the canvas that is transparent where the vendor is to paint; the
            image is then sent on that canvas.
    """

    path: str = ""
    source: Argument = Argument()
    zoom: Zoom = Zoom()
    arguments: Mapping[Feature, Argument] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    frame: FrameFields | None = None
    max_url: int | None = None
    max_bytes: int | None = None
    takes_url: bool = False
    canvas: CanvasLimits | None = None
    multipart: bool = False
    options_in: str = ""
    mask: str = ""

    def sent_frame(self, frame: Frame) -> Frame:
        """The frame as the vendor is told it, scaled into its limits."""
        return frame if self.canvas is None else self.canvas.fitted(frame)

    def limits(self) -> dict[Feature, str]:
        """Every argument with its limits in words, `zoom` first, with which the sizes that are painted are told."""
        zoom = "; new images ".join(filter(None, (str(self.zoom), str(self.canvas or ""))))
        return {
            Feature.ZOOM: zoom,
            **{feature: one.limits or ", ".join(one.values) for feature, one in self.arguments.items()},
        }

    def written(self, kind: SourceKind) -> dict[str, list[str]]:
        """The fields that the adapter can write where the client's options are, each with the arguments behind it.

        `kind` is the kind of source that the operation is declared for.
        """
        source = "image" if kind is SourceKind.IMAGE else "task_id"
        wires = [
            (self.source.wire, source),
            (self.zoom.wire, Feature.ZOOM.value),
            *((one.wire, feature.value) for feature, one in self.arguments.items()),
        ]
        if self.frame is not None:
            placing = [Feature.ZOOM] + [one for one in (Feature.ASPECT_RATIO, Feature.SIDES) if one in self.arguments]
            wires += [(wire, feature.value) for wire in self.frame.wires for feature in placing]
        wires += [(wire, "") for wire in (*self.constants, self.mask)]
        fields: dict[str, list[str]] = {}
        within = f"{self.options_in}." if self.options_in else ""
        for wire, argument in wires:
            if wire and wire.startswith(within) and not wire.startswith("?"):
                listed = fields.setdefault(_top(wire.removeprefix(within)), [])
                listed += [argument] if argument else []
        return fields

    def with_options(self, body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request together with the client's options, which give way to them."""
        if not self.options_in:
            return {**options, **body}
        return {**body, self.options_in: {**options, **body.get(self.options_in, {})}}

    def body(self, order: Order, image_url: str | None = None) -> dict[str, Any]:
        """The fields of the request for `order`, without the client's options.

        `image_url` is where the vendor finds the input image, if not at its own URL.
        """
        source = order.source
        named: Any = (image_url or source.url) if isinstance(source, InputImage) else source
        encode = _remote_id if isinstance(source, Parent) and self.source.encode is _as_it_is else self.source.encode
        # A constant may be an object, in which other fields are written: each body gets its own.
        fields = {
            **copy.deepcopy(dict(self.constants)),
            **(self.frame.placing(order) if self.frame is not None else {}),
        }
        given = [(self.source.wire, encode, named), (self.zoom.wire, self.zoom.encode, order.zoom)]
        given += [(one.wire, one.encode, _value_of(feature, order)) for feature, one in self.arguments.items()]
        # What is not given leaves a constant of the same field as it is.
        fields |= {wire: encode(value) for wire, encode, value in given if value is not None}
        body: dict[str, Any] = {}
        for wire, value in fields.items():
            if wire and value is not None and not wire.startswith("?"):
                *outer, last = wire.split(".")
                functools.reduce(lambda inner, name: inner.setdefault(name, {}), outer, body)[last] = value
        return body

    def url_path(self, order: Order) -> str:
        """`path` with the arguments that are parameters of the URL."""
        named = ((one.wire, one.encode, _value_of(feature, order)) for feature, one in self.arguments.items())
        given = {wire[1:]: encode(value) for wire, encode, value in named if wire.startswith("?") and value is not None}
        return f"{self.path}?{urlencode(given)}" if given else self.path


def bare_base64(url: str) -> str:
    """An image as a vendor takes it that wants bytes in base64 without the head of a ``data:`` URI; a URL as it is."""
    return url.partition(",")[2] if url.startswith("data:") else url


def _remote_id(parent: Parent) -> str:
    return parent.remote_id


def _value_of(feature: Feature, order: Order) -> Any:
    """What an order holds for an argument; None where nothing is to be sent."""
    webhook = order.webhook or Webhook("")
    match feature:
        case Feature.IMAGE_INDEX:
            return order.source.index if isinstance(order.source, Parent) else None
        case Feature.WEBHOOK_URL:
            return webhook.url or None
        case Feature.WEBHOOK_SECRET:
            return webhook.secret
        case Feature.WEBHOOK_EVENTS:
            return list(webhook.events) or None
        case Feature.ZOOM | Feature.PROVIDER_OPTIONS:
            return None
        case _:
            return getattr(order, feature.value)


def _top(wire: str) -> str:
    return wire.partition(".")[0]
