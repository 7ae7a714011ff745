"""The graphs that are built in, and which of them a ComfyUI can run with the model files that it has. Pure.

They were accepted by ComfyUI 0.27.0, and 0.3.64 has every node of them; the names of files are those of its blueprints
and its documentation (August 2026). That the working sizes suit the models is inferred.
"""

from dataclasses import replace
from typing import Any, Final

from outpaint_mcp.providers import ConfigurationError, InvalidRequestError
from outpaint_mcp.providers.comfyui.workflow import Choices, File, Graph, Workflow


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _sampled(
    model: dict[str, Any], conditioning: str, latent: tuple[str, int], vae: list[Any], **sampler: Any
) -> Graph:
    """What all of them end in: the canvas, a sampler, and the image that is saved."""
    return {
        "1": _node("LoadImage", image=""),
        "7": model,
        "8": _node(
            "KSampler",
            model=["7", 0],
            seed=0,
            **sampler,
            positive=[conditioning, 0],
            negative=[conditioning, 1],
            latent_image=[*latent],
            denoise=1.0,
        ),
        "9": _node("VAEDecode", samples=["8", 0], vae=vae),
        "10": _node("SaveImage", images=["9", 0], filename_prefix=""),
    }


_NODES: Final = {"image": "1", "prompt": "4", "seed": "8", "steps": "8", "denoise": "8", "model": "3", "result": "10"}

FLUX_FILL: Final = Workflow(
    "FLUX Fill",
    {
        **_sampled(
            _node("DifferentialDiffusion", model=["3", 0]),
            "6",
            ("6", 2),
            ["12", 0],
            steps=20,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
        ),
        "3": _node("UNETLoader", unet_name="", weight_dtype="default"),
        "11": _node("DualCLIPLoader", clip_name1="", clip_name2="", type="flux"),
        "12": _node("VAELoader", vae_name=""),
        "4": _node("CLIPTextEncode", text="", clip=["11", 0]),
        "13": _node("FluxGuidance", conditioning=["4", 0], guidance=30.0),
        "5": _node("ConditioningZeroOut", conditioning=["4", 0]),
        "6": _node(
            "InpaintModelConditioning",
            positive=["13", 0],
            negative=["5", 0],
            vae=["12", 0],
            pixels=["1", 0],
            mask=["1", 1],
            noise_mask=False,
        ),
    },
    _NODES,
    (
        File("3", "UNETLoader", "unet_name", "flux.*fill", "flux1-fill-dev.safetensors", "diffusion_models"),
        File("11", "DualCLIPLoader", "clip_name1", "clip_l", "clip_l.safetensors", "text_encoders"),
        File("11", "DualCLIPLoader", "clip_name2", "t5xxl", "t5xxl_fp16.safetensors", "text_encoders"),
        File("12", "VAELoader", "vae_name", r"(^|[\\/])ae\b", "ae.safetensors", "vae"),
    ),
)
QWEN_INPAINT: Final = Workflow(
    "Qwen inpaint",
    {
        **_sampled(
            _node("ModelSamplingAuraFlow", model=["3", 0], shift=3.1),
            "15",
            ("16", 0),
            ["12", 0],
            steps=20,
            cfg=2.5,
            sampler_name="euler",
            scheduler="simple",
        ),
        "3": _node("UNETLoader", unet_name="", weight_dtype="default"),
        "11": _node("CLIPLoader", clip_name="", type="qwen_image"),
        "12": _node("VAELoader", vae_name=""),
        "14": _node("ControlNetLoader", control_net_name=""),
        "4": _node("CLIPTextEncode", text="", clip=["11", 0]),
        "5": _node("CLIPTextEncode", text="", clip=["11", 0]),
        "15": _node(
            "ControlNetInpaintingAliMamaApply",
            positive=["4", 0],
            negative=["5", 0],
            control_net=["14", 0],
            vae=["12", 0],
            image=["1", 0],
            mask=["1", 1],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        ),
        "16": _node("VAEEncode", pixels=["1", 0], vae=["12", 0]),
    },
    {**_NODES, "negative": "5"},
    (
        File(
            "3",
            "UNETLoader",
            "unet_name",
            "qwen_image",
            "qwen_image_fp8_e4m3fn.safetensors",
            "diffusion_models",
            without="edit",
        ),
        File(
            "11",
            "CLIPLoader",
            "clip_name",
            r"qwen_2\.5_vl",
            "qwen_2.5_vl_7b_fp8_scaled.safetensors",
            "text_encoders",
        ),
        File("12", "VAELoader", "vae_name", "qwen_image_vae", "qwen_image_vae.safetensors", "vae"),
        File(
            "14",
            "ControlNetLoader",
            "control_net_name",
            "qwen.*inpaint",
            "Qwen-Image-InstantX-ControlNet-Inpainting.safetensors",
            "controlnet",
        ),
    ),
)
CHECKPOINT: Final = Workflow(
    "inpaint checkpoint",
    {
        **_sampled(
            _node("DifferentialDiffusion", model=["3", 0]),
            "6",
            ("6", 2),
            ["3", 2],
            steps=25,
            cfg=6.0,
            sampler_name="dpmpp_2m",
            scheduler="karras",
        ),
        "3": _node("CheckpointLoaderSimple", ckpt_name=""),
        "4": _node("CLIPTextEncode", text="", clip=["3", 1]),
        "5": _node("CLIPTextEncode", text="", clip=["3", 1]),
        "6": _node(
            "InpaintModelConditioning",
            positive=["4", 0],
            negative=["5", 0],
            vae=["3", 2],
            pixels=["1", 0],
            mask=["1", 1],
            noise_mask=True,
        ),
    },
    {**_NODES, "negative": "5"},
    (
        File(
            "3",
            "CheckpointLoaderSimple",
            "ckpt_name",
            "inpaint",
            "512-inpainting-ema.safetensors",
            "checkpoints",
        ),
    ),
    # Stable Diffusion 1.5 and 2 were trained at so many; those of XL are told by their names.
    max_pixels=600_000,
    min_pixels=260_000,
)
BUILT_IN: Final = (FLUX_FILL, QWEN_INPAINT, CHECKPOINT)
"""In the order in which they are tried."""
LOADERS: Final = tuple(dict.fromkeys(one.loader for workflow in BUILT_IN for one in workflow.files))


def chosen(choices: Choices, model: str | None = None) -> Workflow:
    """The first built-in graph whose files the server has; with a `model`, the one that it is for.

    Raises:
        ConfigurationError: the server lacks files for each.
        InvalidRequestError: it has no such model, or none that any graph is for.
    """
    possible = BUILT_IN if model is None else _for_model(choices, model)
    found = [one.with_files(choices, model) for one in possible]
    workflow = next((filled for filled, missing in found if not missing), None)
    if workflow is None:
        raise ConfigurationError("ComfyUI has no model that can outpaint, or not all of its files.", wanted(choices))
    if workflow.name == CHECKPOINT.name and "xl" in str(workflow.graph["3"]["inputs"]["ckpt_name"]).lower():
        workflow = replace(workflow, max_pixels=FLUX_FILL.max_pixels, min_pixels=FLUX_FILL.min_pixels)
    return workflow


def wanted(choices: Choices) -> str:
    """What to put where, for the graph that lacks the least first."""
    lacking = sorted(((one.name, one.with_files(choices)[1]) for one in BUILT_IN), key=lambda one: len(one[1]))
    ways = [f"for {name}: {', '.join(file.advice for file in missing)}" for name, missing in lacking]
    return f"Put there what one of these needs, {'; or '.join(ways)}."


def models(choices: Choices) -> tuple[str, ...]:
    """The models that the server has, of which one can be named."""
    firsts = dict.fromkeys((one.files[0].loader, one.files[0].input) for one in BUILT_IN)
    return tuple(dict.fromkeys(name for first in firsts for name in choices.get(first, ())))


def _for_model(choices: Choices, model: str) -> tuple[Workflow, ...]:
    known = models(choices)
    if model not in known:
        listed = ", ".join(known[:10]) or "none"
        raise InvalidRequestError(
            f"ComfyUI has no model {model[:80]!r}.", f"Leave model out, or give one of: {listed}."
        )
    for one in BUILT_IN:
        first = one.files[0]
        if first.among({(first.loader, first.input): (model,)}) is not None:
            return (one,)
    if model in choices.get(("CheckpointLoaderSimple", "ckpt_name"), ()):
        # Whoever names a checkpoint knows what it is for.
        return (CHECKPOINT,)
    raise InvalidRequestError(
        f"No built-in graph is for the model {model[:80]!r}.",
        "Leave model out, or set COMFYUI_WORKFLOW to a graph for it.",
    )
