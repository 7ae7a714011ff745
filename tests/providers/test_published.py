"""Every vendor's answers: the published shapes are understood, and no mutation of one raises anything else."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import OutpaintError, UnexpectedResponseError
from outpaint_mcp.domain.task import Status, TaskUpdate
from outpaint_mcp.providers.synchronous import Painted, SynchronousProvider

from .published import FETCHED, FOUR, OWN_IMAGES, PAINTED, RESULTS, SUBMITTED
from .test_contract import VENDORS, build_vendor

Parse = Callable[[Any], TaskUpdate | Painted]
POLLED = [name for name in VENDORS if not build_vendor(name).synchronous]


def parsers(name: str) -> list[tuple[Parse, Any]]:
    provider = build_vendor(name)
    if isinstance(provider, SynchronousProvider):
        return [(provider.parse_images, body) for body in PAINTED[name]]
    return [
        *((provider.parse_submit, body) for body in SUBMITTED[name]),
        *((provider.parse_fetch, body) for body in FETCHED[name]),
        *((provider.parse_result, body) for body in (RESULTS[name] if provider.result_path else ())),
    ]


def test_every_published_image_is_understood() -> None:
    for name in set(VENDORS) - set(POLLED):
        found = [parse(body) for parse, body in parsers(name)]
        assert found
        assert all(isinstance(one, Painted) and one.images for one in found)


@pytest.mark.parametrize("name", POLLED)
def test_every_published_shape_is_understood(name: str) -> None:
    updates = [update for parse, body in parsers(name) if isinstance(update := parse(body), TaskUpdate)]
    assert updates[0].remote_id
    assert Status.SUCCEEDED in {update.status for update in updates}
    for update in updates:
        if update.status is Status.SUCCEEDED:
            assert [image.url for image in update.images] in (FOUR, FOUR[:1], OWN_IMAGES.get(name))
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
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_mutated_answer_is_understood_or_unexpected_and_never_a_traceback(name: str, data: st.DataObject) -> None:
    parse, body = data.draw(st.sampled_from(parsers(name)))
    for _ in range(data.draw(st.integers(1, 3))):
        body = mutated(body, data.draw(st.sampled_from(places(body))), data.draw(ANYTHING))
    with contextlib.suppress(UnexpectedResponseError):
        assert isinstance(parse(body), TaskUpdate | Painted)


@pytest.mark.parametrize("name", VENDORS)
@given(body=ANYTHING, status=st.sampled_from([200, 400, 401, 403, 404, 409, 429, 500]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_rejection_can_be_read(name: str, body: Any, status: int) -> None:
    found = build_vendor(name).read_error(status, body)
    assert found is None or isinstance(found, OutpaintError)
