"""Bria's own SDK against the sandbox, so that the sandbox does not only agree with our adapter."""

import io
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from PIL import Image

from outpaint_mcp.providers.bria import Bria
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.sandbox import VENDORS, PlainPainter, Sandbox, SandboxSettings, serving

from ..serving import picture

KEY = VENDORS["bria"].key
EXPAND = "/v2/image/edit/expand"


@pytest.mark.skipif(
    find_spec("bria_client") is None and "OUTPAINT_TEST_EVERYTHING" not in os.environ,
    reason="needs bria-client, of the dev extra",
)
async def test_the_sdk_places_an_order_reads_its_result_and_verifies_the_webhook(tmp_path: Path) -> None:
    sdk: Any = import_module("bria_client")
    toolkit: Any = import_module("bria_client.toolkit")
    called: list[httpx2.Request] = []
    arrived = anyio.Event()

    def receiver(request: httpx2.Request) -> httpx2.Response:
        called.append(request)
        arrived.set()
        return httpx2.Response(204)

    settings = SandboxSettings(seconds_per_state=0.05, painter=PlainPainter(), transport=httpx2.MockTransport(receiver))
    sandbox = Sandbox(settings)
    placed = {"canvas_size": [72, 32], "original_image_size": [48, 32], "original_image_location": [24, 0]}
    payload = {"image": toolkit.Image(picture(tmp_path)).as_bria_api_input, **placed, "prompt": "a lake"}
    async with serving(sandbox) as base_url, sdk.BriaAsyncClient(base_url=f"{base_url}/bria", api_token=KEY) as client:
        taken = await client.submit(EXPAND, payload, webhook_url="http://127.0.0.1:9/done", raise_for_status=True)
        assert taken.status == toolkit.Status.RUNNING
        done = await client.poll(taken, interval=0.02, timeout=20)
        assert (done.status, done.request_id) == (toolkit.Status.COMPLETED, taken.request_id)
        at_once = await client.run(EXPAND, payload, raise_for_status=True)
        assert done.result is not None
        assert at_once.result is not None
        async with httpx2.AsyncClient(trust_env=False) as http:
            for url in (done.result.image_url, at_once.result.image_url):
                assert Image.open(io.BytesIO((await http.get(url)).content)).size == (72, 32)
        with pytest.raises(toolkit.BriaException, match="canvas_size"):
            await client.submit(EXPAND, {**payload, "canvas_size": [9000, 9000]}, raise_for_status=True)
        with anyio.fail_after(20):
            await arrived.wait()
    sandbox.close()
    (push,) = called
    name, sent_at, signature = (push.headers[f"bria-webhook-{one}"] for one in ("id", "timestamp", "signature"))
    assert toolkit.verify_webhook_signature(push.content, name, sent_at, signature, KEY)
    assert Bria(HttpClient(), key=KEY).read_webhook(push.headers, push.content, KEY) == taken.request_id
