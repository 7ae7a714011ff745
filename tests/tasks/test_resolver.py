"""How calls are understood, over the real adapters and without a store: nothing here is sent anywhere."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import ConfigurationError, InvalidRequestError, OutpaintError, UnsupportedFeatureError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import AspectRatio, OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Image, Status, Task
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.providers.piapi import Piapi
from outpaint_mcp.tasks.resolver import Resolver, Source

REMOTE = "task_01"
BUTTON = {"custom_id": "MJ::Outpaint::50"}


class Understanding:
    """A resolver, and what the service would find for it; `asked` lists what was looked up or read."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.asked: list[str] = []

    def resolve(self, request: OutpaintRequest) -> tuple[Order, tuple[str, ...]]:
        self.resolver.check(request)
        if request.task_id is not None:
            source = Source(self.find(request.task_id, request.provider))
            assert source.parent is not None
            assert self.resolver.image_needed(request, source.parent) is None, "no image is handed on here"
        else:
            source = Source(image=self.read(request.image or ""))
        return self.resolver.resolve(request, source)

    def find(self, task_id: str, provider: str) -> Record:
        self.asked.append(task_id)
        at = datetime(2026, 9, 1, tzinfo=UTC)
        images = tuple(Image(index=index, url=f"https://example.com/{index}.png") for index in range(1, 5))
        task = Task(
            id="op-1",
            provider="apimart" if provider == "auto" else provider,
            remote_id=REMOTE,
            status=Status.SUCCEEDED,
            images=images,
            created_at=at,
            updated_at=at,
        )
        return Record(task, "local", None, None, ())

    def read(self, reference: str) -> InputImage:
        self.asked.append(reference)
        url = reference if reference.strip().startswith("http") else None
        size = 27_000_000 if "huge" in reference else 1000
        height = 800 if "square" in reference else 10 if "narrow" in reference else 600
        return InputImage("0" * 64, "image/png", 800, height, "picture.png", url, size)


def of(
    folder: Path, *, may_leave: bool = False, key: str | None = "key", prices: Mapping[str, float] | None = None
) -> tuple[Understanding, list[str]]:
    """A resolver over the real adapters, and the list of what it had looked up or read."""
    vendors: list[Provider] = [one(HttpClient(), key=key) for one in (Legnext, Apiframe, Apimart, Piapi)]
    providers = {one.name: one for one in [*vendors, LocalProvider(folder)]}
    understanding = Understanding(Resolver(providers, auto=tuple(providers), may_leave=may_leave, prices=prices))
    return understanding, understanding.asked


async def refused(resolver: Understanding, **changes: Any) -> OutpaintError:
    with pytest.raises(OutpaintError) as caught:
        resolver.resolve(OutpaintRequest(**changes))
    return caught.value


@pytest.mark.parametrize("before", ["", " ", "\u00a0", "\n\t"])
@pytest.mark.parametrize("scheme", ["data", "DATA"])
async def test_the_request_that_is_shown_holds_no_data_whatever_stands_before_it(
    tmp_path: Path, before: str, scheme: str
) -> None:
    resolver, _ = of(tmp_path)
    request = OutpaintRequest(image=f"{before}{scheme}:image/png;base64,c2VjcmV0")
    assert resolver.resolve(request)[0].shown()["image"] == f"data:image/png;sha256={'0' * 64}"


async def test_a_file_that_may_not_leave_is_refused_with_this_machines_reason(tmp_path: Path) -> None:
    resolver, _ = of(tmp_path)
    error = await refused(resolver, image="a.png", zoom=1)
    assert isinstance(error, InvalidRequestError)
    assert "not grow" in str(error)
    resolver, _ = of(tmp_path, may_leave=True)
    assert "not grow" in str(await refused(resolver, image="a.png", zoom=1))


async def test_a_file_with_a_prompt_and_no_key_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    resolver, asked = of(tmp_path, key=None)
    error = await refused(resolver, image="a.png", prompt="a lake")
    assert isinstance(error, UnsupportedFeatureError)
    assert "Local engine has no prompt" in str(error)
    assert "Leave prompt out: then local can do it on this machine" in str(error)
    assert "apiframe (needs APIFRAME_API_KEY)" in str(error)
    assert "legnext" not in str(error), "it takes URLs alone"
    assert asked == []


async def test_a_file_that_may_not_leave_is_offered_to_those_alone_who_take_files(tmp_path: Path) -> None:
    resolver, _ = of(tmp_path)
    # Apiframe has no zoom between; Legnext takes URLs alone.
    error = await refused(resolver, image="a.png", prompt="a lake", zoom=1.7)
    assert "Local engine has no prompt" in str(error)
    assert "legnext" not in str(error).lower()
    assert "Leave prompt out" in str(error)
    able = await refused(resolver, image="a.png", prompt="a lake", zoom=1.5)
    assert "apiframe can do it" in str(able)


async def test_a_refusal_of_the_picture_itself_goes_before_those_of_the_arguments(tmp_path: Path) -> None:
    resolver, _ = of(tmp_path, may_leave=True)
    # Legnext wants a prompt, whatever the picture.
    error = await refused(resolver, image="square.png", zoom=1, aspect_ratio=AspectRatio(1, 1))
    assert "no larger" in str(error)


@pytest.mark.parametrize(("prices", "told"), [(None, "see the price"), ({"piapi": 0.25}, "about $0.25")])
async def test_the_price_of_an_upscale_is_the_operators_where_there_is_one(
    tmp_path: Path, prices: dict[str, float] | None, told: str
) -> None:
    resolver, _ = of(tmp_path, prices=prices)
    _, notes = resolver.resolve(OutpaintRequest(task_id=REMOTE, provider="piapi", image_index=2))
    (note,) = (note for note in notes if "upscaled first" in note)
    assert told in note


async def test_the_same_button_is_the_same_order_whatever_the_zoom_and_another_button_is_not(tmp_path: Path) -> None:
    resolver, _ = of(tmp_path)

    async def hash_of(**changes: Any) -> str:
        request = OutpaintRequest(task_id=REMOTE, provider="apimart", image_index=1, **changes)
        return resolver.resolve(request)[0].identity("local")

    first = await hash_of(zoom=1.5, provider_options=BUTTON)
    assert await hash_of(zoom=2.0, provider_options=BUTTON) == first
    assert await hash_of(zoom=1.7, provider_options=BUTTON) == first
    assert await hash_of(zoom=1.5, provider_options={"custom_id": "MJ::Outpaint::75"}) != first
    assert await hash_of(zoom=1.5) != await hash_of(zoom=2.0)


@pytest.mark.parametrize("provider", ["apimart", "local"])
async def test_what_a_named_provider_cannot_do_is_refused_before_its_own_id_is_asked_for(
    tmp_path: Path, provider: str
) -> None:
    resolver, asked = of(tmp_path)
    error = await refused(resolver, task_id=REMOTE, provider=provider, zoom=1.7, speed="fast")
    assert isinstance(error, UnsupportedFeatureError)
    assert asked == []


async def test_options_are_counted_in_the_bytes_that_are_sent(tmp_path: Path) -> None:
    resolver, _ = of(tmp_path)
    room = 8192 - len('{"custom_id":"x","metadata":""}')

    async def understood(metadata: str) -> tuple[Order, tuple[str, ...]]:
        options = {"custom_id": "x", "metadata": metadata}
        return resolver.resolve(
            OutpaintRequest(task_id=REMOTE, provider="apimart", image_index=1, provider_options=options)
        )

    await understood("界" * (room // 3))
    assert len(json.dumps("界" * (room // 3))) > 8192, "as escapes it would be too much"
    await understood("a" * room)
    for metadata in ("界" * (room // 3 + 1), "a" * (room + 1)):
        with pytest.raises(InvalidRequestError, match="8 KB"):
            await understood(metadata)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, nested(100_000), "\ud800", {1, 2}], ids=["long", "deep", "half", "set"])
async def test_options_that_json_cannot_say_are_refused(tmp_path: Path, value: Any) -> None:
    resolver, asked = of(tmp_path)
    request = OutpaintRequest(task_id=REMOTE, provider="apimart", provider_options={"metadata": value})
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        resolver.resolve(request)
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        resolver.resolve(replace(request, provider="auto", task_id="op-1"))
    assert asked == []


@pytest.mark.parametrize(
    ("provider", "image", "told", "others"),
    [
        ("apiframe", "huge.png", "up to 25 MB", "local"),
        ("legnext", "https://example.com/narrow.png", "too narrow", "apiframe"),
        ("legnext", "picture.png", "URL", "apiframe"),
    ],
)
async def test_who_else_can_is_named_where_a_named_provider_cannot_take_the_picture(
    tmp_path: Path, provider: str, image: str, told: str, others: str
) -> None:
    resolver, _ = of(tmp_path)
    prompt = "a lake" if provider == "legnext" else None
    with pytest.raises(UnsupportedFeatureError, match=told) as refused:
        resolver.resolve(OutpaintRequest(image=image, provider=provider, zoom=1.5, prompt=prompt))
    assert refused.value.advice.endswith(f"Providers that can: {others}.")


# Who is named as able is able


IMAGES = {"file": "a.png", "url": "https://example.com/a.png"}
REQUESTS = st.fixed_dictionaries(
    {"zoom": st.sampled_from([1.0, 1.1, 1.5, 1.7, 2.0])},
    optional={
        "provider": st.sampled_from(["legnext", "apiframe", "apimart", "piapi", "local"]),
        "prompt": st.just("a lake"),
        "speed": st.just("fast"),
        "aspect_ratio": st.sampled_from([AspectRatio(1, 1), AspectRatio(16, 9)]),
        "sides": st.sampled_from([("left",), ("top", "bottom"), ("left", "right")]),
        "webhook": st.sampled_from([Webhook("https://example.com/h"), Webhook("https://example.com/h", "s")]),
        "provider_options": st.sampled_from([{"seed": 7}, {"metadata": "x"}]),
    },
)
NAMES = "|".join(["legnext", "apiframe", "apimart", "piapi", "local"])


@given(
    source=st.sampled_from(["task", *IMAGES]),
    arguments=REQUESTS,
    keys=st.sets(st.sampled_from(["legnext", "apiframe", "apimart", "piapi"])),
    may_leave=st.booleans(),
)
def test_what_a_refusal_offers_is_not_refused(
    source: str, arguments: dict[str, Any], keys: set[str], may_leave: bool
) -> None:
    vendors: list[Provider] = [
        one(HttpClient(), key="key" if one.name in keys else None) for one in (Legnext, Apiframe, Apimart, Piapi)
    ]
    providers = {one.name: one for one in [*vendors, LocalProvider(Path())]}
    resolver = Resolver(providers, auto=tuple(providers), may_leave=may_leave)

    def resolved(**changes: Any) -> None:
        try:
            resolve(**changes)
        except InvalidRequestError as error:
            # Whether an image can grow so is only known once it is read.
            if "which sides does not name" not in str(error):
                raise

    def resolve(**changes: Any) -> None:
        asked = {**arguments, **changes}
        if source != "task":
            found = Understanding(resolver)
            found.resolve(OutpaintRequest(image=IMAGES[source], **asked))
            return
        request = OutpaintRequest(task_id="op-1", image_index=2, **asked)
        resolver.check(request)
        parent = Understanding(resolver).find("op-1", "auto")
        index = resolver.image_needed(request, parent)
        image = None if index is None else Understanding(resolver).read(parent.task.images[index - 1].url)
        resolver.resolve(request, Source(parent, image))

    try:
        resolved()
        return
    except OutpaintError as error:
        told = str(error)
        advice = error.advice
    said = re.findall(rf"\b({NAMES})\b(?: \(needs (\w+)\))?", advice)
    left_out = re.search(r"[Ll]eave ([a-z_, ]+?) out(?:: then (\w+)| and name (\w+))?", advice)
    changes: dict[str, Any] = {}
    if left_out is not None:
        gone = re.split(", | and ", left_out[1])
        changes = {name: None for name in gone if name in ("prompt", "speed", "aspect_ratio", "sides")}
        changes |= {"provider_options": {}} if "provider_options" in gone else {}
        if "webhook_url" in gone:
            changes["webhook"] = None
        elif "webhook_secret" in gone:
            changes["webhook"] = Webhook("https://example.com/h")
        fewer = left_out[2] or left_out[3]
        said = [one for one in said if one[0] != fewer]
        with_key = contextlib.suppress(ConfigurationError) if fewer is None else contextlib.nullcontext()
        with with_key:
            resolved(**changes, **({} if left_out[3] is None else {"provider": fewer}))
    for name, key in said:
        if key:
            assert key == providers[name].needs[0]
            with pytest.raises(ConfigurationError, match=key):
                resolved(provider=name)
        else:
            assert not providers[name].needs, told
            resolved(provider=name)
