"""The contract of a provider, for every provider, kind of source and feature."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import OutpaintError, UnexpectedResponseError, UnsupportedFeatureError
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.request import AspectRatio, Feature, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import ApiCall, HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.local.provider import LocalProvider

from .published import FETCHED, FOUR, SUBMITTED

CLASSES = provider_classes()
VENDORS = [name for name, one in CLASSES.items() if issubclass(one, HttpProvider)]
UUID = "5b0e8b1a-0000-4000-8000-000000000001"
HOOK = Webhook("https://example.com/hook")
PARENT = Parent(UUID, "reference", 1, True)
PICTURE = InputImage("0" * 64, "image/png", 800, 600, "picture.png", "https://example.com/picture.png")

VARIED: dict[Feature, tuple[dict[str, Any], dict[str, Any]]] = {
    Feature.ZOOM: ({"zoom": 1.5}, {"zoom": 2.0}),
    Feature.ASPECT_RATIO: ({}, {"aspect_ratio": AspectRatio(16, 9)}),
    Feature.IMAGE_INDEX: ({"source": PARENT}, {"source": replace(PARENT, index=2)}),
    Feature.PROMPT: ({"prompt": "a lake"}, {"prompt": "a hill"}),
    Feature.SPEED: ({}, {"speed": "turbo"}),
    Feature.WEBHOOK_URL: ({}, {"webhook": HOOK}),
    Feature.WEBHOOK_SECRET: ({"webhook": HOOK}, {"webhook": replace(HOOK, secret="s")}),
    Feature.WEBHOOK_EVENTS: ({"webhook": HOOK}, {"webhook": replace(HOOK, events=("completed",))}),
    Feature.PROVIDER_OPTIONS: ({}, {"options": {"seed": 7}}),
}


def wire(provider: Provider, order: Order) -> str:
    """Everything that leaves for this order, as text."""
    if isinstance(provider, LocalProvider):
        return provider.build_job(order).model_dump_json()
    assert isinstance(provider, HttpProvider)
    calls = []
    if provider.needs_upscaled and isinstance(order.source, Parent):
        calls.append(provider.build_upscale(replace(order, step=StepName.UPSCALE, webhook=None)))
        # What is extended is then the upscale, whose only image is the first.
        order = replace(order, source=replace(order.source, index=1, is_grid=False))
    image_url = "https://example.com/uploaded.png" if provider.uploads else None
    calls.append(provider.build_submit(order, image_url))
    return json.dumps([[call.path, call.json] for call in calls], sort_keys=True)


def breaches(provider: Provider) -> Iterator[str]:
    """Where the wire does not change if and only if the feature is declared."""
    for kind in provider.features:
        source = PARENT if kind is SourceKind.TASK else PICTURE
        for feature, (one, other) in VARIED.items():
            if feature is Feature.IMAGE_INDEX and kind is SourceKind.IMAGE:
                continue
            if feature is Feature.ASPECT_RATIO and provider.limits(kind).get(feature, "").startswith("1:1"):
                # Making square is all that it can do, which goes with zoom 1.
                other = {"aspect_ratio": AspectRatio(1, 1), "zoom": 1.0}
            order = Order("key", StepName.OUTPAINT, source, zoom=1.5, prompt="x")
            changes = wire(provider, replace(order, **one)) != wire(provider, replace(order, **other))
            declared = feature in provider.limits(kind)
            if changes and not declared:
                yield f"{provider.name} sends {feature} for a {kind} and does not declare it"
            if declared and not changes:
                yield f"{provider.name} declares {feature} for a {kind} and does not send it"


def build(one: type[Provider], tmp_path: Any) -> Provider:
    if issubclass(one, HttpProvider):
        return one(HttpClient(), key="key")
    assert issubclass(one, LocalProvider)
    return one(tmp_path)


@pytest.mark.parametrize("name", CLASSES)
def test_the_wire_changes_if_and_only_if_the_feature_is_declared(name: str, tmp_path: Any) -> None:
    assert list(breaches(build(CLASSES[name], tmp_path))) == []


class Forgetful(Legnext):
    """Declares a prompt and does not send it."""

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        return super().build_submit(replace(order, prompt="always the same"), image_url)


class Silent(Apimart):
    """Sends a speed and does not declare it."""

    features: ClassVar[Any] = {
        SourceKind.TASK: {
            feature: words for feature, words in Apimart.features[SourceKind.TASK].items() if feature != Feature.SPEED
        }
    }


@pytest.mark.parametrize(("broken", "told"), [(Forgetful, "does not send it"), (Silent, "does not declare it")])
def test_the_suite_notices_a_provider_that_is_broken_on_purpose(broken: type[HttpProvider], told: str) -> None:
    found = list(breaches(broken(HttpClient(), key="key")))
    assert found
    assert all(told in one for one in found)


ASKED: dict[Feature, dict[str, Any]] = {
    Feature.ASPECT_RATIO: {"aspect_ratio": AspectRatio(16, 9)},
    Feature.PROMPT: {"prompt": "a lake"},
    Feature.SPEED: {"speed": "turbo"},
    Feature.WEBHOOK_URL: {"webhook": HOOK},
    Feature.WEBHOOK_SECRET: {"webhook": replace(HOOK, secret="s")},
    Feature.WEBHOOK_EVENTS: {"webhook": replace(HOOK, events=("completed",))},
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("kind", SourceKind)
@pytest.mark.parametrize("feature", ASKED)
def test_a_feature_that_is_not_declared_is_refused_by_name(
    name: str, kind: SourceKind, feature: Feature, tmp_path: Any
) -> None:
    provider = build(CLASSES[name], tmp_path)
    if feature in provider.limits(kind):
        return
    with pytest.raises(UnsupportedFeatureError) as refused:
        provider.check(OutpaintRequest(zoom=2.0, **ASKED[feature]), kind)
    if kind in provider.features:
        assert feature.value in str(refused.value) or "webhook_url" in str(refused.value)


@pytest.mark.parametrize("name", CLASSES)
def test_every_declaration_is_there(name: str, tmp_path: Any) -> None:
    provider = build(CLASSES[name], tmp_path)
    assert provider.name == name
    assert provider.title
    assert provider.price
    assert provider.docs_url
    assert provider.image_lifetime
    assert provider.sources
    assert set(provider.zoom) == set(provider.features)
    assert provider.first_poll > 0
    assert provider.poll_interval > 0


Parse = Callable[[Any], TaskUpdate]


def parsers(name: str) -> list[tuple[Parse, Any]]:
    provider = build(CLASSES[name], None)
    assert isinstance(provider, HttpProvider)
    submitted: list[tuple[Parse, Any]] = [(provider.parse_submit, body) for body in SUBMITTED[name]]
    return submitted + [(provider.parse_fetch, body) for body in FETCHED[name]]


@pytest.mark.parametrize("name", VENDORS)
def test_every_published_shape_is_understood(name: str) -> None:
    updates = [parse(body) for parse, body in parsers(name)]
    assert updates[0].remote_id
    assert Status.SUCCEEDED in {update.status for update in updates}
    for update in updates:
        if update.status is Status.SUCCEEDED:
            assert [image.url for image in update.images] in (FOUR, FOUR[:1])
        if update.status is Status.FAILED:
            assert update.failure is not None
            assert update.failure.message


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(body: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a body."""
    inner: Any = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def mutated(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[place[0]] = mutated(body[place[0]], place[1:], value)
    return copy


@pytest.mark.parametrize("name", VENDORS)
@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_mutated_answer_is_understood_or_unexpected_and_never_a_traceback(name: str, data: st.DataObject) -> None:
    parse, body = data.draw(st.sampled_from(parsers(name)))
    for _ in range(data.draw(st.integers(1, 3))):
        body = mutated(body, data.draw(st.sampled_from(places(body))), data.draw(ANYTHING))
    with contextlib.suppress(UnexpectedResponseError):
        assert isinstance(parse(body), TaskUpdate)


@pytest.mark.parametrize("name", VENDORS)
@given(body=ANYTHING, status=st.sampled_from([200, 400, 401, 403, 404, 409, 429, 500]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_refusal_can_be_read(name: str, body: Any, status: int) -> None:
    provider = build(CLASSES[name], None)
    assert isinstance(provider, HttpProvider)
    found = provider.read_error(status, body)
    assert found is None or isinstance(found, OutpaintError)
