"""Replicate's own SDK against the sandbox: what it takes for Replicate's answers, they are."""

import io
from pathlib import Path

import anyio
import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, serving

from ..serving import picture

# For Python 3.14 there is none: it is written with pydantic 1.
sdk = pytest.importorskip("replicate.client")
webhook = pytest.importorskip("replicate.webhook")
exceptions = pytest.importorskip("replicate.exceptions")
HOOK = "http://127.0.0.1:9/done"


async def test_the_sdk_uploads_orders_waits_for_the_result_and_verifies_the_webhook(tmp_path: Path) -> None:
    called: list[httpx2.Request] = []

    def receive(request: httpx2.Request) -> httpx2.Response:
        called.append(request)
        return httpx2.Response(204)

    settings = SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), transport=httpx2.MockTransport(receive))
    sandbox = Sandbox(settings)
    async with serving(sandbox) as base_url:
        client = sdk.Client(sandbox.vendors["replicate"].key, base_url=f"{base_url}/replicate")
        client.poll_interval = 0.02
        try:
            file = await client.files.async_create(picture(tmp_path, width=96, height=64))
            placed = {"canvas_size": [144, 64], "original_image_size": [96, 64], "original_image_location": [48, 0]}
            prediction = await client.predictions.async_create(
                model="bria/expand-image",
                input={"image": file.urls["get"], "aspect_ratio": "none", **placed},
                webhook=HOOK,
                webhook_events_filter=["completed"],
            )
            assert prediction.status == "starting"
            await prediction.async_wait()
            assert (prediction.status, prediction.error) == ("succeeded", None)
            async with httpx2.AsyncClient() as web:
                result = await web.get(prediction.output)
            with anyio.fail_after(10):
                while not called:  # noqa: ASYNC110 (it comes over the network)
                    await anyio.sleep(0.01)
            secret = await client.webhooks.default.async_secret()
            with pytest.raises(exceptions.ReplicateError) as refused:
                await client.predictions.async_create(model="bria/expand-image", input={"zoom": 2})
        finally:
            # It has no other way to be closed.
            await client._async_client.aclose()
    sandbox.close()
    with Image.open(io.BytesIO(result.content)) as image:
        assert image.size == (144, 64)
    assert refused.value.status == 422
    headers, body = dict(called[0].headers), called[0].content.decode()
    webhook.Webhooks.validate(headers=headers, body=body, secret=secret, tolerance=60)
    with pytest.raises(webhook.InvalidSignatureError):
        webhook.Webhooks.validate(headers=headers, body=body + " ", secret=secret)
