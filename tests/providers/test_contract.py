"""The contract of a provider, for every provider, kind of source and argument; no vendor is treated apart."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, ClassVar

import pytest

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    OutpaintError,
    UnsupportedFeatureError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import MAX_ZOOM, MIN_ZOOM, AspectRatio, Feature, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import ResultImage, Status
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.canvases import Canvases
from outpaint_mcp.providers.declarations import Operation
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.providers.local.workers import Workers
from outpaint_mcp.providers.registry import BUILT_IN, provider_classes
from outpaint_mcp.providers.self_hosted import SelfHosted, Tools
from outpaint_mcp.providers.self_hosted import build_vendor as build_any

CLASSES = {name: one for name, one in provider_classes().items() if name in BUILT_IN}
VENDORS = [name for name, one in CLASSES.items() if issubclass(one, HttpProvider)]
ENGINES = [name for name in VENDORS if CLASSES[name].self_hosted]
SERVICES = [name for name in VENDORS if name not in ENGINES]
UUID = "5b0e8b1a-0000-4000-8000-000000000001"
HOOK = Webhook("https://example.com/hook")
SECRET_HOOK = replace(HOOK, secret="s")
EVENTS_HOOK = replace(HOOK, events=("completed",))
SOURCES: dict[SourceKind, Parent | InputImage] = {
    SourceKind.TASK: Parent(UUID, "reference", 1, True),
    SourceKind.IMAGE: InputImage("0" * 64, "image/png", 800, 600, "picture.png", "https://example.com/picture.png"),
}
UPLOADED = "https://example.com/uploaded.png"

VALUES: dict[Feature, tuple[dict[str, Any], ...]] = {
    Feature.ZOOM: tuple({"zoom": zoom} for zoom in (1.1, 1.5, 1.7, 2.0)),
    Feature.ASPECT_RATIO: tuple(
        {"aspect_ratio": ratio} for ratio in (None, AspectRatio(16, 9), AspectRatio(1, 1), AspectRatio(9, 16))
    ),
    Feature.SIDES: tuple({"sides": sides} for sides in (None, ("left", "right", "top"), ("right", "top", "bottom"))),
    Feature.IMAGE_INDEX: tuple({"image_index": index} for index in (1, 2, 3, 4)),
    Feature.PROMPT: tuple({"prompt": prompt} for prompt in (None, "a lake", "a hill")),
    Feature.SPEED: tuple({"speed": speed} for speed in (None, "relax", "fast", "turbo")),
    Feature.WEBHOOK_URL: ({}, {"webhook": HOOK}, {"webhook": replace(HOOK, url="https://example.com/other")}),
    Feature.WEBHOOK_SECRET: ({"webhook": HOOK}, {"webhook": SECRET_HOOK}),
    Feature.WEBHOOK_EVENTS: ({"webhook": HOOK}, {"webhook": EVENTS_HOOK}),
    Feature.PROVIDER_OPTIONS: ({}, {"provider_options": {"seed": 7}}, {"provider_options": {"seed": 8}}),
}
"""What each argument may be; the values of one argument are compared with everything else the same."""
BASES: tuple[dict[str, Any], ...] = (
    {"zoom": 1.5, "prompt": "x"},
    {"zoom": 1.0, "prompt": "x"},
    {"zoom": 1.5, "prompt": "x", "aspect_ratio": AspectRatio(16, 9)},
)
"""What else is asked for meanwhile."""


async def no_store(data: bytes, client: str) -> ResultImage:
    raise AssertionError("nothing is ordered here")


NOWHERE = Path("nowhere")


def build(one: type[Provider], folder: Path = NOWHERE, key: str | None = "key") -> Provider:
    if issubclass(one, HttpProvider):
        tools = Tools(HttpClient(), no_store, Canvases(NOWHERE, Workers()))
        # An engine has an address, and most have no key.
        engine = issubclass(one, SelfHosted)
        key, base_url = (None, key and "http://127.0.0.1:9") if engine else (key, None)
        return build_any(one, tools, key=key, base_url=base_url)
    assert issubclass(one, LocalProvider)
    return one(folder)


def build_vendor(name: str) -> HttpProvider:
    provider = build(CLASSES[name])
    assert isinstance(provider, HttpProvider)
    return provider


def order_for(provider: Provider, request: OutpaintRequest, kind: SourceKind) -> Order:
    """The order that a request comes to, whether or not the provider would refuse it."""
    source = SOURCES[kind]
    frame: Frame | None = None
    if isinstance(source, Parent):
        source = replace(source, index=request.image_index or 1)
    else:
        # Without `sides` a provider never sees a frame that is not centred.
        sides = request.sides if Feature.SIDES in provider.limits(kind) else None
        frame = Frame.around(
            source.width, source.height, zoom=request.zoom, aspect_ratio=request.aspect_ratio, sides=sides
        )
    return Order(
        provider=provider.name,
        source=source,
        frame=frame,
        zoom=request.zoom,
        aspect_ratio=request.aspect_ratio,
        sides=request.sides,
        prompt=request.prompt,
        speed=request.speed,
        options=request.provider_options,
        webhook=request.webhook,
        key="key",
    )


def bodies(provider: HttpProvider, order: Order) -> list[tuple[str, Mapping[str, Any]]]:
    """The path and the JSON of each request that an order comes to, an upscale before it included."""
    calls = []
    if provider.needs_upscaled and isinstance(order.source, Parent):
        calls.append(provider.build_upscale(replace(order, step=StepName.UPSCALE)))
        # What is extended is then the upscale, whose only image is the first.
        order = replace(order, source=replace(order.source, index=1, is_grid=False))
    calls.append(provider.build_submit(order, UPLOADED if provider.uploads else None))
    operation = provider.operation_of(order)
    if provider.self_hosted:
        # The canvas is drawn here, as the frame says.
        return [(call.path, {**(call.json or {}), "canvas": str(order.frame)}) for call in calls]
    files = filter(None, [operation.source.wire, operation.mask]) if operation.multipart else ()
    # An image that is sent on its canvas lies there as the frame says.
    sent = dict.fromkeys(files, str(order.frame) if operation.mask else "the image")
    return [(call.path, {**(call.json or call.form or {}), **sent}) for call in calls]


def wire(provider: Provider, order: Order) -> str:
    """Everything that leaves for an order, as text."""
    if isinstance(provider, HttpProvider):
        return json.dumps(bodies(provider, order), sort_keys=True)
    assert isinstance(provider, LocalProvider)
    return provider.build_job(order).model_dump_json()


def accepts(provider: Provider, request: OutpaintRequest, kind: SourceKind) -> bool:
    source = SOURCES[kind]
    try:
        provider.check(request, kind)
        if isinstance(source, InputImage):
            frame = Frame.around(
                source.width, source.height, zoom=request.zoom, aspect_ratio=request.aspect_ratio, sides=request.sides
            )
            provider.check_image(source, frame, provider.operation(kind, request, request.provider_options))
            return frame.grows
    except OutpaintError:
        return False
    return True


def choices(provider: Provider, kind: SourceKind) -> list[dict[str, Any]]:
    """The options that leave the choice among a provider's variants to it, and those that name each of them."""
    named = provider.variants if kind is SourceKind.IMAGE else ()
    return [{}, *({provider.variant_option: name} for name in named)]


def with_choice(asked: Mapping[str, Any], choice: Mapping[str, Any]) -> OutpaintRequest:
    return OutpaintRequest(**{**asked, "provider_options": {**choice, **asked.get("provider_options", {})}})


def breaches(provider: Provider) -> Iterator[str]:
    """Where the wire does not change if and only if the argument is declared."""
    for kind in provider.operations:
        for feature, values in VALUES.items():
            if feature is Feature.IMAGE_INDEX and kind is SourceKind.IMAGE:
                continue  # your own image has no index
            declared = feature in provider.limits(kind)
            seen = False
            for base, choice in product(BASES, choices(provider, kind)):
                requests = [with_choice({**base, **value}, choice) for value in values]
                for pair in combinations(requests, 2):
                    one, other = (wire(provider, order_for(provider, request, kind)) for request in pair)
                    seen = seen or one != other
                    if one == other and declared and all(accepts(provider, request, kind) for request in pair):
                        yield f"{provider.name} takes two values of {feature} for a {kind} and sends the same"
            if seen and not declared:
                yield f"{provider.name} sends {feature} for a {kind} and does not declare it"
            if declared and not seen:
                yield f"{provider.name} declares {feature} for a {kind} and does not send it"


@pytest.mark.parametrize("name", CLASSES)
def test_the_wire_changes_if_and_only_if_the_argument_is_declared(name: str, tmp_path: Path) -> None:
    assert list(breaches(build(CLASSES[name], tmp_path))) == []


class Forgetful(Legnext):
    """Declares a prompt and does not send it."""

    def build_submit(self, order: Order, image_url: str | None = None) -> Any:
        return super().build_submit(replace(order, prompt="always the same"), image_url)


class Rounding(Legnext):
    """Takes zooms that it sends as others."""

    def build_submit(self, order: Order, image_url: str | None = None) -> Any:
        return super().build_submit(replace(order, zoom=2.0 if (order.zoom or 0) > 1.6 else 1.5), image_url)


def without(operation: Operation, feature: Feature) -> Operation:
    return replace(operation, arguments={one: it for one, it in operation.arguments.items() if one is not feature})


class Silent(Apimart):
    """Sends a speed and does not declare it."""

    operations: ClassVar = {SourceKind.TASK: without(Apimart.operations[SourceKind.TASK], Feature.SPEED)}


@pytest.mark.parametrize(
    ("broken", "feature", "told"),
    [
        (Forgetful, "prompt", "declares prompt for a .* does not send it"),
        (Rounding, "zoom", "takes two values of zoom"),
        (Silent, "speed", "sends speed for a task and does not declare it"),
    ],
)
def test_the_suite_notices_a_provider_that_is_broken_on_purpose(
    broken: type[HttpProvider], feature: str, told: str
) -> None:
    found = list(breaches(broken(HttpClient(), key="key")))
    assert any(re.search(told, one) for one in found), found
    assert all(f" {feature} for a " in one for one in found), "and nothing else"


EVERYTHING: tuple[dict[str, Any], ...] = tuple(
    {
        "zoom": zoom,
        "aspect_ratio": ratio,
        "image_index": 2,
        "prompt": "x",
        "speed": "fast",
        "webhook": replace(SECRET_HOOK, events=("completed",)),
    }
    for zoom, ratio in ((1.0, AspectRatio(1, 1)), (1.5, AspectRatio(16, 9)), (2.0, None))
)
"""Requests that between them ask for all that there is."""


def beside(body: Any, probe: str) -> set[str]:
    """The other fields of the object in which the field `probe` stands, wherever that is."""
    if isinstance(body, Mapping):
        if probe in body:
            return set(body) - {probe}
        return set().union(*(beside(inner, probe) for inner in body.values()))
    return set().union(*(beside(inner, probe) for inner in body)) if isinstance(body, list) else set()


@pytest.mark.parametrize("name", SERVICES)
def test_the_reserved_options_are_what_the_adapter_writes_beside_the_clients_own(name: str) -> None:
    provider = build_vendor(name)
    written: set[str] = set()
    for kind in provider.operations:
        for asked, choice in product(EVERYTHING, choices(provider, kind)):
            order = order_for(provider, with_choice({**asked, "provider_options": {"probe": 1}}, choice), kind)
            *upscale, (_, body) = bodies(provider, order)
            fields = beside(body, "probe")
            assert fields, "the client's options are sent"
            written |= fields.union(*(inner for _, inner in upscale))
    # What names a variant may stand in the body too.
    assert written - {provider.variant_option} == set(provider.reserved_options())


def test_a_provider_that_writes_no_json_reserves_nothing() -> None:
    for name, one in CLASSES.items():
        # An engine takes the options that it declares, and no others.
        assert bool(one.reserved_options()) == (name in SERVICES)


@pytest.mark.parametrize("name", VENDORS)
def test_a_reserved_option_is_refused_and_the_argument_named_that_stands_for_it(name: str) -> None:
    provider = build_vendor(name)
    arguments = {"task_id", "image", *(feature.value for feature in Feature)}
    for kind in provider.operations:
        prompt = "x" if Feature.PROMPT in provider.limits(kind) else None
        for key, instead in provider.reserved_options().items():
            with pytest.raises(InvalidRequestError) as refused:
                provider.check(OutpaintRequest(prompt=prompt, provider_options={key: 1}), kind)
            assert repr(key) in refused.value.message
            assert refused.value.advice == f"Use {instead} instead."
            assert instead == "the tool itself" or set(instead.split(" and ")) <= arguments


ASKED: dict[Feature, dict[str, Any]] = {
    Feature.ASPECT_RATIO: {"aspect_ratio": AspectRatio(16, 9)},
    Feature.SIDES: {"sides": ("left",)},
    Feature.IMAGE_INDEX: {"image_index": 2},
    Feature.PROMPT: {"prompt": "a lake"},
    Feature.SPEED: {"speed": "turbo"},
    Feature.WEBHOOK_URL: {"webhook": HOOK},
    Feature.WEBHOOK_SECRET: {"webhook": SECRET_HOOK},
    Feature.WEBHOOK_EVENTS: {"webhook": EVENTS_HOOK},
    Feature.PROVIDER_OPTIONS: {"provider_options": {"seed": 7}},
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("kind", SourceKind)
@pytest.mark.parametrize("feature", ASKED)
def test_an_argument_that_is_not_declared_is_refused_by_name(
    name: str, kind: SourceKind, feature: Feature, tmp_path: Path
) -> None:
    provider = build(CLASSES[name], tmp_path)
    request = OutpaintRequest(zoom=2.0, **ASKED[feature])
    limits = provider.limits(kind)
    if feature in limits:
        return
    with pytest.raises(UnsupportedFeatureError) as refused:
        provider.check(request, kind)
    missing = [one.value for one in Feature if one in request.asked() and one not in limits]
    assert provider.title in refused.value.message
    assert not limits or f"no {missing[0]}" in refused.value.message


@pytest.mark.parametrize("name", CLASSES)
def test_an_argument_that_is_needed_is_missed_by_name(name: str, tmp_path: Path) -> None:
    provider = build(CLASSES[name], tmp_path)
    for kind, operation in provider.operations.items():
        for feature, argument in operation.arguments.items():
            if argument.required:
                with pytest.raises(InvalidRequestError, match=f"needs a {feature.value}"):
                    provider.check(OutpaintRequest(), kind)


@pytest.mark.parametrize("name", CLASSES)
def test_every_declaration_is_there(name: str, tmp_path: Path) -> None:
    one = CLASSES[name]
    assert one.undeclared() == ()
    provider = build(one, tmp_path)
    assert provider.name == name
    assert re.fullmatch("[a-z][a-z0-9_]*", name), "it begins the names of environment variables"
    for words in (provider.title, provider.price, provider.docs_url, provider.image_lifetime):
        assert words.strip() == words != ""
    assert min(provider.first_poll, provider.poll_interval, provider.usual_seconds) > 0
    assert (SourceForm.OWN_IMAGE in provider.sources) == (SourceKind.IMAGE in provider.operations)
    takes_tasks = {SourceForm.GRID, SourceForm.UPSCALED} & set(provider.sources)
    assert bool(takes_tasks) == (SourceKind.TASK in provider.operations)
    assert provider.needs_upscaled == (provider.upscale is not None)
    for operation in (*provider.operations.values(), *provider.variants.values(), *filter(None, [provider.upscale])):
        zooms = operation.zoom.values or (operation.zoom.low, operation.zoom.high)
        assert all(MIN_ZOOM <= zoom <= MAX_ZOOM for zoom in zooms)
    for kind in provider.operations:
        assert all(words for feature, words in provider.limits(kind).items()), "every limit is told in words"
    listed = provider.info()
    assert set(listed.features) == set(listed.zoom) == {kind.value for kind in provider.operations}


@pytest.mark.parametrize("name", VENDORS)
def test_every_declaration_of_a_vendor_is_there(name: str) -> None:
    provider = build_vendor(name)
    assert re.fullmatch("[A-Z][A-Z0-9_]*", provider.key_env), "it is the name of an environment variable"
    assert build(CLASSES[name]).needs == ()
    needed = f"{name.upper()}_BASE_URL" if name in ENGINES else provider.key_env
    assert build(CLASSES[name], key=None).needs == (needed,)
    assert name in ENGINES or re.fullmatch("https://[^/?#]+[^?#]*[^/]", provider.base_url)
    assert provider.docs_url.startswith("https://")
    assert provider.auth_header[1].format(key="key") != provider.auth_header[1], "the key goes into the header"
    # An engine looks a lost order up before it is sent again.
    assert name in ENGINES or bool(provider.idempotency_header) == provider.idempotent
    assert all(word == word.lower() for word in provider.statuses), "words are compared in lower case"
    operations = (*provider.operations.values(), *provider.variants.values(), *filter(None, [provider.upscale]))
    for operation in operations if name in SERVICES else ():
        assert operation.path.startswith("/")
        assert operation.source.wire
    if not provider.synchronous:
        assert UUID in json.dumps([(call := provider.build_fetch(UUID)).path, call.json])
        assert {Status.RUNNING, Status.SUCCEEDED, Status.FAILED} <= set(provider.statuses.values())
