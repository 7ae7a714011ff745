"""ComfyUI against the sandbox's: its graphs, the operator's own, and orders that somebody disturbs."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from PIL import Image

import outpaint_mcp.providers as api
from outpaint_mcp.domain.task import Task
from outpaint_mcp.sandbox import ManualClock, SandboxSettings
from outpaint_mcp.sandbox.painters import PlainPainter
from outpaint_mcp.sandbox.vendors import comfyui_graph
from outpaint_mcp.sandbox.vendors.comfyui import ComfyUI

from ..providers.easel import file_at
from .service_at_sandbox import ServiceAtSandbox, arguments_for, service_at_sandbox

FLUX = {
    ("UNETLoader", "unet_name"): ["other.safetensors", "FLUX1-Fill-dev.safetensors"],
    ("DualCLIPLoader", "clip_name1"): ["t5xxl_fp16.safetensors", "clip_l.safetensors"],
    ("DualCLIPLoader", "clip_name2"): ["t5xxl_fp16.safetensors", "clip_l.safetensors"],
    ("VAELoader", "vae_name"): ["taesd", "flux/ae.safetensors"],
}
QWEN = {
    ("UNETLoader", "unet_name"): ["qwen_image_edit_fp8.safetensors", "qwen_image_fp8_e4m3fn.safetensors"],
    ("CLIPLoader", "clip_name"): ["qwen_2.5_vl_7b_fp8_scaled.safetensors"],
    ("VAELoader", "vae_name"): ["qwen_image_vae.safetensors"],
    ("ControlNetLoader", "control_net_name"): ["Qwen-Image-InstantX-ControlNet-Inpainting.safetensors"],
}
CHECKPOINTS = {("CheckpointLoaderSimple", "ckpt_name"): ["plain.safetensors", "sd15-inpainting.ckpt"]}
Choices = Mapping[tuple[str, str], list[str]]


def engine(at: ServiceAtSandbox) -> ComfyUI:
    found = at.sandbox.vendors["comfyui"]
    assert isinstance(found, ComfyUI)
    return found


def graph(at: ServiceAtSandbox) -> dict[str, Any]:
    """The graph that was ordered last."""
    sent: dict[str, Any] = at.bodies("comfyui", "outpaint")[-1]["prompt"]
    return sent


def node(of: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The inputs of the first node of a class."""
    inputs: dict[str, Any] = next(one["inputs"] for one in of.values() if one["class_type"] == kind)
    return inputs


@pytest.mark.parametrize(
    ("choices", "loader", "model"),
    [
        ({**FLUX, **CHECKPOINTS}, "UNETLoader", "FLUX1-Fill-dev.safetensors"),
        ({**QWEN, **CHECKPOINTS}, "UNETLoader", "qwen_image_fp8_e4m3fn.safetensors"),
        (CHECKPOINTS, "CheckpointLoaderSimple", "sd15-inpainting.ckpt"),
    ],
)
async def test_the_first_built_in_graph_is_ordered_whose_files_the_engine_has(
    choices: Choices, loader: str, model: str, tmp_path: Path
) -> None:
    async with service_at_sandbox(tmp_path) as at:
        engine(at).choices = dict(choices)
        task = await at.order("comfyui", prompt="a lake", provider_options={"steps": 7, "denoise": 0.8, "seed": 11})
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert model in node(graph(at), loader).values()
        sampler = node(graph(at), "KSampler")
        assert (sampler["steps"], sampler["denoise"], sampler["seed"]) == (7, 0.8, 11)
        assert "a lake" in [one["inputs"].get("text") for one in graph(at).values()]


async def test_without_the_files_of_any_graph_it_is_said_what_is_wanted_and_where(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        engine(at).choices = {**FLUX, ("VAELoader", "vae_name"): ["taesd"]}
        with pytest.raises(api.ConfigurationError, match="no model that can outpaint") as refused:
            await at.order("comfyui")
        # The graph that lacks the least comes first.
        assert refused.value.advice.startswith("Put there what one of these needs, for FLUX Fill: ae.safetensors in")
        assert "512-inpainting-ema.safetensors in models/checkpoints" in refused.value.advice
        assert at.sandbox.order_count("comfyui", "outpaint") == 0


async def test_a_model_is_named_as_the_engine_lists_it(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        engine(at).choices = {**FLUX, **CHECKPOINTS}
        await at.order("comfyui", provider_options={"model": "plain.safetensors", "negative_prompt": "text"})
        assert node(graph(at), "CheckpointLoaderSimple")["ckpt_name"] == "plain.safetensors"
        with pytest.raises(api.InvalidRequestError, match=r"no model 'gone.safetensors'") as refused:
            await at.order("comfyui", provider_options={"model": "gone.safetensors"})
        assert "FLUX1-Fill-dev.safetensors" in refused.value.advice
        with pytest.raises(api.InvalidRequestError, match=r"No built-in graph is for the model 'other.safetensors'"):
            await at.order("comfyui", provider_options={"model": "other.safetensors"})
        with pytest.raises(api.UnsupportedFeatureError, match="FLUX Fill has no node for negative_prompt"):
            await at.order("comfyui", provider_options={"negative_prompt": "text"})


def seeds(at: ServiceAtSandbox) -> list[int]:
    return [one["inputs"]["seed"] for one in graph(at).values() if "seed" in one["inputs"]]


async def test_a_repeat_draws_anew_and_the_same_order_does_not(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        first = await at.order("comfyui")
        one = seeds(at)
        assert (await at.order("comfyui")).id == first.id
        assert at.sandbox.order_count("comfyui", "outpaint") == 1
        again = await at.order("comfyui", repeat=True)
        assert again.id != first.id
        assert seeds(at) != one


async def test_variants_are_one_order_with_a_seed_each(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        task = await at.order("comfyui", provider_options={"variants": 3, "seed": 2**64 - 2})
        assert [image.index for image in task.images] == [1, 2, 3]
        assert seeds(at) == [2**64 - 2, 2**64 - 1, 0]
        assert at.sandbox.order_count("comfyui", "outpaint") == 1
        further = await at.order("comfyui", task_id=task.id, image=None, image_index=3)
        assert further.status is api.Status.SUCCEEDED


async def test_the_image_says_nothing_of_how_it_was_made(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        for keep in (True, False):
            task = await at.order("comfyui", prompt="hush", provider_options={"keep_original": keep})
            data = file_at(task.images[0].url)
            assert Image.open(io.BytesIO(data)).size == (144, 96)
            assert b"hush" not in data
            assert not Image.open(io.BytesIO(data)).info.get("prompt")


# The operator's own workflow


def own(**changes: Any) -> dict[str, Any]:
    """A graph as ComfyUI exports it, with marked nodes."""
    return {
        "10": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "outpaint:image"}},
        "11": {
            "class_type": "LoadImageMask",
            "inputs": {"image": "x.png", "channel": "red"},
            "_meta": {"title": "Outpaint:mask, white is new"},
        },
        "12": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "512-inpainting-ema.safetensors"}},
        "13": {"class_type": "CLIPTextEncode", "inputs": {"text": "good", "clip": ["12", 1]}},
        "14": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["12", 1]}},
        "15": {
            "class_type": "InpaintModelConditioning",
            "inputs": {
                "positive": ["13", 0],
                "negative": ["14", 0],
                "vae": ["12", 2],
                "pixels": ["10", 0],
                "mask": ["11", 0],
                "noise_mask": True,
            },
        },
        "16": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["12", 0],
                "seed": 5,
                "steps": 9,
                "cfg": 6.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "positive": ["15", 0],
                "negative": ["15", 1],
                "latent_image": ["15", 2],
                "denoise": 1.0,
            },
        },
        "17": {"class_type": "VAEDecode", "inputs": {"samples": ["16", 0], "vae": ["12", 2]}},
        "18": {"class_type": "SaveImage", "inputs": {"images": ["17", 0], "filename_prefix": "x"}},
        **changes,
    }


def workflow(folder: Path, graph: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps(graph))
    return path


async def test_in_the_operators_graph_the_marked_nodes_are_set_and_those_that_can_be_no_other(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, own())) as at:
        task = await at.order("comfyui", prompt="a lake", provider_options={"variants": 2})
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert len(task.images) == 2
        sent = graph(at)
        assert [sent[one]["inputs"]["text"] for one in ("13", "14")] == ["a lake", "bad"]
        assert sent["16"]["inputs"]["seed"] != 5
        assert (sent["16"]["inputs"]["steps"], sent["16-1"]["inputs"]["seed"]) == (9, sent["16"]["inputs"]["seed"] + 1)
        assert sent["10"]["inputs"]["image"] != sent["11"]["inputs"]["image"]
        plain = await at.order("comfyui")
        assert graph(at)["13"]["inputs"]["text"] == "good", "what is not asked for stays as it is"
    other = own() | {"17": {"class_type": "VAEDecode", "inputs": {"samples": ["16", 0], "vae": ["12", 2]}, "_meta": {}}}
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, other)) as at:
        assert (await at.order("comfyui")).id != plain.id, "another graph is another order"


async def test_the_workflow_of_the_documentation_works(tmp_path: Path) -> None:
    documented = Path(__file__).parents[2] / "docs" / "comfyui-workflow.json"
    async with service_at_sandbox(tmp_path, workflow=documented) as at:
        options = {"negative_prompt": "text", "model": "512-inpainting-ema.safetensors", "steps": 3}
        task = await at.order("comfyui", prompt="a lake", provider_options=options)
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert [graph(at)[one]["inputs"]["text"] for one in ("13", "14")] == ["a lake", "text"]


def titled(node_id: str, title: str) -> dict[str, Any]:
    return {node_id: {**own()[node_id], "_meta": {"title": title}}}


SECOND = {"19": {"class_type": "SaveImage", "inputs": {"images": ["17", 0], "filename_prefix": "y"}}}
PAD = {"class_type": "ImagePadForOutpaint", "inputs": {"image": ["10", 0]}}


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (own(**SECOND), r"2 nodes that could be the result: 18 \(SaveImage\), 19 \(SaveImage\)"),
        (own(**titled("11", "outpaint:image")), r"2 nodes titled outpaint:image: 10 \(LoadImage\), 11"),
        (own(**titled("17", "outpaint:sampler")), "titled outpaint:sampler, which means nothing"),
        (own(**titled("13", "outpaint:seed")), "outpaint:seed on 13 .*, which has no seed"),
        (own(**titled("11", "")), "uses no mask"),
        (own(**{"20": PAD}), "pads the image itself .node 20"),
        ({"nodes": [], "links": []}, "in the format of ComfyUI's editor"),
        ({}, "no graph in ComfyUI's API format"),
        ([1], "no graph in ComfyUI's API format"),
    ],
)
async def test_a_graph_that_can_be_understood_in_two_ways_is_refused_with_its_nodes(
    graph: Any, says: str, tmp_path: Path
) -> None:
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, graph)) as at:
        with pytest.raises(api.ConfigurationError, match=says):
            await at.order("comfyui")
        assert not at.sandbox.requests("comfyui")


async def test_a_graph_with_nodes_that_cost_money_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(comfyui_graph.nodes()["VAEDecode"], "api_node", True)
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, own())) as at:
        with pytest.raises(api.ConfigurationError, match="cost money: VAEDecode"):
            await at.order("comfyui")
        assert not at.bodies("comfyui", "outpaint")


async def test_a_graph_that_the_engine_cannot_run_is_refused(tmp_path: Path) -> None:
    foreign = own(**{"17": {**own()["17"], "class_type": "GlamourDecode"}})
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, foreign)) as at:
        with pytest.raises(api.ConfigurationError, match=r"lacks nodes of the workflow mine.json: GlamourDecode"):
            await at.order("comfyui")
    missing = own()
    missing["12"] = {**missing["12"], "inputs": {"ckpt_name": "gone.safetensors"}}
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, missing)) as at:
        with pytest.raises(api.ConfigurationError, match=r"ckpt_name: 'gone.safetensors' not in"):
            await at.order("comfyui")


async def test_what_the_operators_graph_has_no_node_for_is_refused(tmp_path: Path) -> None:
    bare = own()
    bare["15"] = {**bare["15"], "inputs": {**bare["15"]["inputs"], "negative": ["13", 0]}}
    del bare["14"]
    async with service_at_sandbox(tmp_path, workflow=workflow(tmp_path, bare)) as at:
        with pytest.raises(api.UnsupportedFeatureError, match="no node for negative_prompt") as refused:
            await at.order("comfyui", provider_options={"negative_prompt": "text"})
        assert "outpaint:negative" in refused.value.advice


# What is done to an order

SLOW = SandboxSettings(seconds_per_state=30, painter=PlainPainter())


async def running_order(at: ServiceAtSandbox, **changes: Any) -> Task:
    asked = {**arguments_for("comfyui", at.folder), **changes}
    task = await at.service.outpaint(api.OutpaintRequest(**asked), at_least=10)
    assert task.status in (api.Status.QUEUED, api.Status.RUNNING)
    return task


async def ended(at: ServiceAtSandbox, task: Task) -> Task:
    while not task.status.ends_a_wait:
        task = await at.service.get_task(task.id, wait_seconds=5)
    return task


async def test_an_order_that_somebody_interrupts_is_cancelled_and_costs_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = SandboxSettings(clock=clock, painter=PlainPainter())
    async with service_at_sandbox(tmp_path, settings=settings) as at:
        task = await running_order(at)
        clock.advance(settings.seconds_per_state * 1.5)
        async with httpx2.AsyncClient() as somebody:
            await somebody.post(f"{at.base_url}/comfyui/interrupt")
        task = await ended(at, task)
    assert task.status is api.Status.CANCELLED
    assert "interrupted" in task.notes[-1]
    assert not task.images


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_order_whose_answer_is_lost_is_looked_up_and_drawn_once(accepted: bool, tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault("comfyui", "submit", "drop", accepted=accepted)
        task = await at.order("comfyui")
        assert task.status is api.Status.SUCCEEDED, task.failure
        assert at.sandbox.order_count("comfyui", "outpaint") == 1


async def test_an_engine_that_restarts_has_lost_the_order_and_a_repeat_is_free(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, settings=SLOW) as at:
        task = await running_order(at)
        engine(at).restart()
        task = await ended(at, task)
        assert task.status is api.Status.FAILED
        assert task.failure is not None
        assert "was restarted" in task.failure.message
        assert "pay twice" not in task.next
        assert task.failure.retryable
        again = await running_order(at)
        assert again.id != task.id


async def test_an_engine_that_is_away_for_long_leaves_the_task_unknown_until_it_is_back(tmp_path: Path) -> None:
    settings = SandboxSettings(seconds_per_state=1.0, painter=PlainPainter())
    async with service_at_sandbox(tmp_path, settings=settings, task_timeout=1.0) as at:
        task = await running_order(at)
        provider: Any = at.service._providers["comfyui"]
        address, provider._base_url = provider._base_url, "http://127.0.0.1:9"
        task = await ended(at, task)
        assert task.status is api.Status.UNKNOWN
        assert "nothing is paid" in task.next
        assert "pay twice" not in task.next
        provider._base_url = address
        with anyio.fail_after(20):
            while task.status is api.Status.UNKNOWN:
                task = await at.service.get_task(task.id, wait_seconds=1)
        assert task.status is api.Status.SUCCEEDED, task.failure


async def test_an_engine_that_is_out_of_memory_says_what_helps(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        message = "Allocation on device 0 would exceed allowed memory (/opt/comfy/models/x.safetensors)"
        at.fault("comfyui", "submit", "fail", message=message, code="torch.OutOfMemoryError")
        task = await at.order("comfyui")
    assert task.status is api.Status.FAILED
    assert task.failure is not None
    assert (task.failure.provider_code, task.failure.retryable) == ("OutOfMemoryError", False)
    assert "smaller model" in task.failure.message
    assert "/opt" not in task.failure.message


async def test_a_graph_of_which_only_another_part_can_run_is_no_order(tmp_path: Path) -> None:
    broken = own(**{"20": {"class_type": "PreviewImage", "inputs": {"images": ["17", 0]}}})
    broken["18"] = {**broken["18"], "inputs": {"images": ["17", 0]}}
    broken["21"] = {"class_type": "PreviewImage", "inputs": {"images": ["10", 0]}}
    broken["16"] = {**broken["16"], "inputs": {**broken["16"]["inputs"], "cfg": 200.0}}
    async with service_at_sandbox(tmp_path, settings=SLOW, workflow=workflow(tmp_path, broken)) as at:
        with pytest.raises(api.InvalidRequestError, match="bigger than max of 100"):
            await at.order("comfyui")
        # It had begun to draw the other part.
        assert at.sandbox.requests("comfyui", "cancel")
        queue = (await engine(at).queue(None)).body  # type: ignore[arg-type]
        assert json.loads(bytes(queue)) == {"queue_running": [], "queue_pending": []}


async def test_an_engine_that_is_not_there_is_said_at_once_with_what_to_do(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.service._providers["comfyui"]._base_url = "http://127.0.0.1:9"  # type: ignore[attr-defined]
        with pytest.raises(api.ProviderUnavailableError, match="ComfyUI cannot be reached") as refused:
            await at.order("comfyui")
    assert "COMFYUI_BASE_URL" in refused.value.advice


async def test_the_steps_of_the_samplers_are_the_percentage(tmp_path: Path) -> None:
    settings = SandboxSettings(seconds_per_state=1.0, painter=PlainPainter())
    async with service_at_sandbox(tmp_path, settings=settings) as at:
        asked = {**arguments_for("comfyui", tmp_path), "provider_options": {"steps": 5, "variants": 2}}
        task = await at.service.outpaint(api.OutpaintRequest(**asked), at_least=10)
        seen = set()
        while not task.status.ends_a_wait:
            seen.add(task.progress)
            task = await at.service.get_task(task.id)
            await anyio.sleep(0.02)
    assert task.status is api.Status.SUCCEEDED
    # Ten steps in all; not each is seen.
    steps = {percent for percent in seen if percent and percent < 100}
    assert steps
    assert all(percent % 10 == 0 or percent == 99 for percent in steps), steps


async def test_an_image_that_is_gone_from_the_engine_is_a_failure_and_never_a_success(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path) as at:
        at.fault("comfyui", "image", "gone")
        task = await at.order("comfyui")
        assert (task.status, task.images) == (api.Status.FAILED, ())
        assert task.failure is not None
        assert task.failure.retryable
        assert (await at.order("comfyui")).status is api.Status.SUCCEEDED


# What it says of itself


async def test_the_list_says_what_the_engine_is_and_would_draw_by(tmp_path: Path) -> None:
    async with service_at_sandbox(tmp_path, read_timeout=5) as at:
        engine(at).choices = {**FLUX, **CHECKPOINTS}

        async def note() -> str:
            at.service._providers["comfyui"]._seen_at = None  # type: ignore[attr-defined]
            return next(one.note for one in await at.service.list_providers() if one.name == "comfyui")

        told = await note()
        assert "ComfyUI 0.27.0 on cpu, 24 GB has the models" in told
        assert told.endswith("It draws by FLUX Fill with FLUX1-Fill-dev.safetensors.")
        engine(at).choices = {}
        assert "Put there what one of these needs" in await note()
        at.fault("comfyui", "about", "slow", seconds=2)
        assert (await note()).endswith("It has not answered in time.")
