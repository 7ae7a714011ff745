"""Web pages in place of a vendor's answer, through the tools: what they are called, and what became of the order."""

from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client

from outpaint_mcp.domain.request import SourceKind
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.sandbox import Fault, Sandbox, seed_id

from .test_failure_texts import at_sandbox, ordered, text_of


async def ordered_under(client: Client, sandbox: Sandbox, **fault: Any) -> tuple[str, int]:
    """The text of the result of an order that meets a fault, and how many requests for orders were sent."""
    sandbox.faults.add(Fault(on="submit", **fault))
    result = await ordered(client, fault["vendor"])
    return text_of(result), len([one for one in sandbox.requests() if one.action == "submit"])


@pytest.mark.parametrize("vendor", ["legnext", "apiframe", "vtrix"])
@pytest.mark.parametrize("status", [403, 503, 200])
async def test_a_challenge_is_no_wrong_key_and_nothing_was_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, status: int
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        text, sent = await ordered_under(client, sandbox, vendor=vendor, fault="challenge", status=status)
        assert text.startswith("[provider_unavailable] The request was blocked before it reached ")
        assert "the API key is not at fault" in text
        assert (sent, sandbox.order_count(vendor, "outpaint")) == (1, 0)
        again = await ordered(client, vendor)
        assert not again.is_error, "the refused order is in nobody's way"
        assert sandbox.order_count(vendor, "outpaint") == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_any_page_with_a_refusal_is_no_wrong_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        text, _ = await ordered_under(client, sandbox, vendor="apimart", fault="html", status=status)
    assert text.startswith("[provider_unavailable] The request was blocked before it reached APIMart: a web page came")
    assert "'Bad gateway'" in text, "the page's title"


@pytest.mark.parametrize(("status", "accepted"), [(502, True), (500, False), (200, True)])
async def test_a_page_of_which_nobody_knows_who_wrote_it_leaves_the_order_unconfirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, accepted: bool
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        text, sent = await ordered_under(
            client, sandbox, vendor="legnext", fault="html", status=status, accepted=accepted
        )
        assert "order_unconfirmed" in text
        assert "a web page" in text
        again = await ordered(client, "legnext")
        assert (again.structured_content or {})["status"] == "unknown"
        assert sandbox.order_count("legnext", "outpaint") == accepted
    assert sent == 1


async def test_a_limit_that_a_front_tells_with_a_page_of_its_own_is_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        text, _ = await ordered_under(client, sandbox, vendor="piapi", fault="html", status=429)
    assert text.startswith("[rate_limited] ")


@pytest.mark.parametrize("fault", ["html", "challenge"])
async def test_a_page_in_place_of_a_poll_does_not_say_that_the_task_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Literal["html", "challenge"]
) -> None:
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        sandbox.faults.add(Fault(vendor="legnext", on="poll", fault=fault, status=404))
        named = {"task_id": seed_id("legnext", grid=False), "provider": "legnext"}
        assert text_of(await client.call_tool("get_task", named)).startswith("[provider_unavailable] ")


async def test_an_image_that_has_no_zoom_out_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "Zoom Out is not available for v8 images"
    async with at_sandbox(tmp_path, monkeypatch) as (client, sandbox):
        text, _ = await ordered_under(client, sandbox, vendor="apimart", fault="status", status=400, message=message)
        listed = (await client.call_tool("list_providers", {})).structured_content or {}
    assert text.startswith("[unsupported_feature] ")
    assert "V8 images have no zoom out" in text
    notes = {one["name"]: one["note"] for one in listed["providers"]}
    told = {name for name, note in notes.items() if "V8" in note}
    assert told == {name for name, one in provider_classes().items() if SourceKind.TASK in one.operations} - {"local"}
    assert "1.33" in notes["apimart"]
