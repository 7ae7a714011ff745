"""Prompts as a client gives them: what reaches a vendor of Midjourney's, and what another vendor."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from outpaint_mcp.sandbox import seed_id
from outpaint_mcp.server.app import build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.tools import ResultShape
from outpaint_mcp.tasks.service import Service

from ..serving import picture
from ..vendors.service_at_sandbox import ServiceAtSandbox, service_at_sandbox
from .test_app import text_of

FIELDS = {"piapi": "prompt", "vtrix": "remixPrompt", "legnext": "remixPrompt"}


@contextlib.asynccontextmanager
async def client_at(at: ServiceAtSandbox) -> AsyncIterator[Client]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Service]:
        yield at.service

    async with Client(build_server(LazyService(opened), ResultShape, events=at.service.events)) as client:
        yield client


def order(vendor: str, **changes: Any) -> dict[str, Any]:
    return {
        "task_id": seed_id(vendor, grid=False),
        "provider": vendor,
        "zoom": 1.5,
        "wait_seconds": 0,
        **changes,
    }


@pytest.mark.parametrize("vendor", FIELDS)
async def test_white_space_makes_no_other_order_and_is_folded_for_midjourney(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        ids = set()
        for prompt in ("a lake", " a  lake", "a\n\tlake ", "a\u3000lake\u2003"):
            result = await client.call_tool("outpaint", order(vendor, prompt=prompt))
            assert not result.is_error, result.content
            ids.add(result.structured_content["id"])
        (body,) = at.bodies(vendor, "outpaint")
    assert len(ids) == 1
    fields = body["input"][0]["params"] if vendor == "vtrix" else body
    assert fields[FIELDS[vendor]] == "a lake"


@pytest.mark.parametrize("vendor", FIELDS)
async def test_what_multiplies_the_bill_or_contradicts_an_argument_is_refused_before_anything_is_sent(
    tmp_path: Path, vendor: str
) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "  "}, "blank"),
        ({"prompt": "a\0lake"}, "control character"),
        ({"prompt": "a lake --repeat 4"}, "billed"),
        ({"prompt": "a {red,green} bird"}, "billed"),
        ({"prompt": "a lake \u2014AR 1:2"}, "aspect_ratio"),
        ({"prompt": "a lake", "provider_options": {"extra": "--zoom 1.1"}}, "zoom"),
    ]
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        for changes, told in refused:
            result = await client.call_tool("outpaint", order(vendor, **changes))
            assert result.is_error
            assert text_of(result).startswith("[invalid_request]")
            assert told in text_of(result)
        assert at.sandbox.order_count(vendor, "outpaint") == 0


async def test_elsewhere_a_prompt_is_text(tmp_path: Path) -> None:
    prompt = "a  {red,green} bird --ar 1:2"
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        own = {"image": str(picture(tmp_path)), "provider": "apiframe", "zoom": 1.5, "wait_seconds": 0}
        result = await client.call_tool("outpaint", {**own, "prompt": prompt})
        assert not result.is_error, result.content
        (body,) = at.bodies("apiframe", "outpaint")
    assert body["fluxFillParams"]["prompt"] == prompt
