"""ComfyUI in the sandbox, held against what a real one (0.27.0, November 2026) answered to the same requests."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from outpaint_mcp.sandbox import Fault, ManualClock, Sandbox

CAPTURED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("comfyui_prompts.json").read_text("utf-8"))
"""Requests for prompts, and of each answer the status, the type of the error, and for each node the types of its errors
and the outputs that depend on it."""
IDS = [f"3b9be68b-23f9-42d0-95e8-11{at:010}" for at in range(9)]


def canvas(width: int = 96, height: int = 64) -> bytes:
    """A picture of which the left third is to be painted."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGBA")
    image.paste((90, 90, 90, 0), (0, 0, width // 3, height))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
async def client(sandbox: Sandbox, connect: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    found = connect(sandbox, "comfyui")
    assert (await uploaded(found, "src.png", canvas()))["name"] == "src.png"
    return found


async def uploaded(client: httpx2.AsyncClient, name: str, data: bytes, **fields: str) -> dict[str, Any]:
    answer = await client.post("/upload/image", data=fields, files={"image": (name, data)})
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


def graph(**inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "src.png"}},
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "outpaint-mcp/one", **inputs},
        },
    }


async def ordered(client: httpx2.AsyncClient, prompt_id: str, **inputs: Any) -> None:
    answer = await client.post("/prompt", json={"prompt": graph(**inputs), "prompt_id": prompt_id})
    assert (answer.status_code, answer.json()["node_errors"]) == (200, {})


@pytest.mark.parametrize("case", CAPTURED, ids=[case["name"] for case in CAPTURED])
async def test_a_prompt_is_answered_as_a_real_one_answered_it(client: httpx2.AsyncClient, case: dict[str, Any]) -> None:
    headers = {"content-type": "application/json", **case.get("headers", {})}
    body = {"prompt_id": IDS[0], **case["json"]} if "json" in case else None
    raw = case.get("raw", "").encode() if body is None else json.dumps(body).encode()
    answer = await client.post("/prompt", content=raw, headers=headers)
    assert answer.status_code == case["status"]
    if "text" in case:
        assert answer.text == ("" if case["text"] == "<0 bytes>" else case["text"])
        return
    told = answer.json()
    assert told.get("error", {}).get("type") == case.get("error")
    nodes = {
        node: {"types": [one["type"] for one in errors["errors"]], "outputs": errors["dependent_outputs"]}
        for node, errors in told["node_errors"].items()
    }
    assert nodes == case["nodes"]


async def test_names_of_uploads_are_made_unique_unless_they_are_to_be_written_over(client: httpx2.AsyncClient) -> None:
    other = canvas(48, 32)
    assert (await uploaded(client, "src.png", canvas()))["name"] == "src.png"
    assert (await uploaded(client, "src.png", other))["name"] == "src (1).png"
    assert await uploaded(client, "src.png", other, overwrite="true", subfolder="a") == {
        "name": "src.png",
        "subfolder": "a",
        "type": "input",
    }
    assert (await client.post("/upload/image", files={"file": ("src.png", other)})).status_code == 400
    folder = await client.post("/upload/image", data={"subfolder": "../.."}, files={"image": ("src.png", other)})
    assert (folder.status_code, folder.content) == (400, b"")


async def test_one_prompt_runs_at_a_time_and_its_history_comes_at_the_end(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    await ordered(client, IDS[0])
    await ordered(client, IDS[1], filename_prefix="outpaint-mcp/two")
    clock.advance(1.5)
    queue = (await client.get("/queue")).json()
    assert [[one[1] for one in queue[part]] for part in ("queue_running", "queue_pending")] == [[IDS[0]], [IDS[1]]]
    assert (await client.get(f"/history/{IDS[0]}")).json() == {}
    clock.advance(1)
    entry = (await client.get(f"/history/{IDS[0]}")).json()[IDS[0]]
    assert entry["status"]["status_str"] == "success"
    assert entry["prompt"][2] == graph()
    (image,) = entry["outputs"]["3"]["images"]
    assert image == {"filename": "one_00001_.png", "subfolder": "outpaint-mcp", "type": "output"}
    view = await client.get("/view", params=image)
    assert size_of(view) == (96, 64)
    assert json.loads(Image.open(io.BytesIO(view.content)).info["prompt"]) == graph()
    assert (await client.get("/view", params={**image, "filename": "gone.png"})).status_code == 404


async def test_an_equal_graph_gives_the_same_file_at_once_and_the_same_id_runs_again(
    client: httpx2.AsyncClient, clock: ManualClock
) -> None:
    await ordered(client, IDS[0])
    clock.advance(5)
    for prompt_id in (IDS[0], IDS[1]):
        await ordered(client, prompt_id)
        entry = (await client.get(f"/history/{prompt_id}")).json()[prompt_id]
        assert entry["outputs"]["3"]["images"][0]["filename"] == "one_00001_.png"
        assert dict(entry["status"]["messages"])["execution_cached"]["nodes"] == ["1", "3"]


@pytest.mark.parametrize("way", ["interrupt", "interrupt all", "cancel"])
async def test_what_runs_can_be_interrupted_by_its_id_or_by_anybody(
    client: httpx2.AsyncClient, clock: ManualClock, way: str
) -> None:
    await ordered(client, IDS[0])
    clock.advance(1.5)
    assert (await client.post("/interrupt", json={"prompt_id": IDS[1]})).status_code == 200
    if way == "cancel":
        assert (await client.post(f"/api/jobs/{IDS[0]}/cancel")).json() == {"cancelled": True}
    else:
        body = {"prompt_id": IDS[0]} if way == "interrupt" else {}
        assert (await client.post("/interrupt", json=body)).content == b""
    entry = (await client.get(f"/history/{IDS[0]}")).json()[IDS[0]]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


async def test_what_waits_is_deleted_without_a_trace_and_a_restart_forgets_all_but_the_files(
    client: httpx2.AsyncClient, clock: ManualClock, sandbox: Sandbox
) -> None:
    await ordered(client, IDS[0])
    clock.advance(5)
    (image,) = (await client.get(f"/history/{IDS[0]}")).json()[IDS[0]]["outputs"]["3"]["images"]
    await ordered(client, IDS[1], filename_prefix="outpaint-mcp/two")
    await client.post("/queue", json={"delete": [IDS[1]]})
    sandbox.faults.add(Fault(vendor="comfyui", on="poll", fault="restart"))
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/queue")
    assert (await client.get("/queue")).json() == {"queue_running": [], "queue_pending": []}
    for prompt_id in IDS[:2]:
        assert (await client.get(f"/history/{prompt_id}")).json() == {}
    assert (await client.get("/view", params=image)).status_code == 200


async def test_sides_are_cut_to_multiples_of_8_and_a_broken_picture_fails(
    client: httpx2.AsyncClient, clock: ManualClock, size_of: Callable[[httpx2.Response], tuple[int, int]]
) -> None:
    await uploaded(client, "odd.png", canvas(101, 67))
    await uploaded(client, "bad.png", b"no picture")
    for prompt_id, name in zip(IDS, ("odd.png", "bad.png"), strict=False):
        wanted = graph(filename_prefix=name)
        wanted["1"]["inputs"]["image"] = name
        assert (await client.post("/prompt", json={"prompt": wanted, "prompt_id": prompt_id})).status_code == 200
        clock.advance(5)
    (image,) = (await client.get(f"/history/{IDS[0]}")).json()[IDS[0]]["outputs"]["3"]["images"]
    assert size_of(await client.get("/view", params=image)) == (96, 64)
    status = (await client.get(f"/history/{IDS[1]}")).json()[IDS[1]]["status"]
    assert "cannot identify image file" in dict(status["messages"])["execution_error"]["exception_message"]


async def test_it_says_what_it_is_and_has(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/system_stats")).json()["system"]["comfyui_version"] == "0.27.0"
    told = (await client.get("/object_info/CheckpointLoaderSimple")).json()["CheckpointLoaderSimple"]
    assert told["input"]["required"]["ckpt_name"][0] == ["512-inpainting-ema.safetensors"]
    assert (await client.get("/object_info/NoSuchNode")).json() == {}
    nowhere = await client.get("/nosuch")
    assert (nowhere.status_code, nowhere.content) == (404, b"")
