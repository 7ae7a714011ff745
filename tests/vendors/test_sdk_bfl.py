"""Black Forest Labs' own SDK against the sandbox: it places an order and reads the result."""

import io
import json
import os
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import VENDORS, PlainPainter, Sandbox, SandboxSettings, serving

from ..serving import picture

# The SDK joins an order's path to the folder of its base URL. It knows many models, but not this one yet.
SCRIPT = """
import base64, json, sys
from blackforest import BFLClient
from blackforest.client import BFLError
from blackforest.types.general.client_config import ClientConfig
from pydantic import BaseModel, ConfigDict

class Outpainting(BaseModel):
    model_config = ConfigDict(extra="allow")

MODEL = "flux-tools/outpainting-v1"
class Client(BFLClient):
    model_input_registry = {MODEL: Outpainting}

base_url, key, path = sys.argv[1:]
client = Client(key, base_url=f"{base_url}/bfl/v1")
client.session.trust_env = False
with open(path, "rb") as file:
    image = base64.b64encode(file.read()).decode()
order = {"input_image": image, "width": 144, "height": 64, "reference_offset_x": 48, "reference_offset_y": 0}
taken = client.generate(MODEL, order)
result = client.get_polling_result(taken.id, ClientConfig(polling_interval=0.1, timeout=60))
told = client.get_task_status(taken.id)
waited = client.generate(MODEL, order, ClientConfig(sync=True, polling_interval=0.1, timeout=60))
refused = None
try:
    client.generate(MODEL, {**order, "width": 32})
except BFLError as error:
    refused = str(error)
print()
print(json.dumps([result, [told.status, told.result, told.error], waited.result, refused]))
"""


SDK = Path(sys.prefix) / "blackforest"
"""Where scripts/environment puts the SDK alone: it asks for a Pillow that is older than ours, and runs with ours."""


@pytest.mark.skipif(not SDK.exists() and "OUTPAINT_TEST_EVERYTHING" not in os.environ, reason="the SDK is not there")
async def test_the_sdk_places_an_order_and_reads_its_result(tmp_path: Path) -> None:
    image = picture(tmp_path, width=96, height=64)
    sandbox = Sandbox(SandboxSettings(seconds_per_state=0.05, painter=PlainPainter()))
    async with serving(sandbox) as base_url:
        command = [sys.executable, "-c", SCRIPT, base_url, VENDORS["bfl"].key, str(image)]
        with anyio.fail_after(120):
            done = await anyio.run_process(command, env={**os.environ, "PYTHONPATH": str(SDK)}, check=False)
        assert done.returncode == 0, done.stderr.decode()
        result, told, waited, refused = json.loads(done.stdout.splitlines()[-1])
        assert told == ["Ready", result, None]
        async with httpx2.AsyncClient(trust_env=False) as http:
            for url in (result["sample"], waited["sample"]):
                assert Image.open(io.BytesIO((await http.get(url)).content)).size == (144, 64)
    sandbox.close()
    assert "422" in refused
    assert [order.body["width"] for order in sandbox.orders("bfl")] == [144, 144]
