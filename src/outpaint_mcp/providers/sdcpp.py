"""The jobs of stable-diffusion.cpp's sd-server (its `examples/server/api.md`, August 2026), which `sdapi` orders.

A job outlives this program: it is looked up by its id, until ten minutes after its end. None tells how far it is. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import outpaint_mcp.providers as api

CAPABILITIES: Final = "/sdcpp/v1/capabilities"
PROMPT: Final = "seamless continuation of the picture"
"""It refuses an empty one, and outpaints often have none."""
STRENGTH: Final = 1.0
"""What fills the new area is no picture of it: it is to be drawn anew, whatever the model."""
JOB_ID: Final = re.compile(r"job_[!-~]{1,190}")
STATES: Final = api.status_words(
    queued="queued", running="generating", succeeded="completed", failed="failed", cancelled="cancelled"
)


class Capabilities(api.Answer):
    """What the model that runs can do, by mode."""

    features_by_mode: Mapping[str, Any]

    @property
    def paints_masks(self) -> bool:
        """Whether it does; a server that does not say is believed to."""
        features = self.features_by_mode.get("img_gen")
        return not isinstance(features, Mapping) or features.get("mask_image") is not False


class _Image(api.Answer):
    b64_json: api.Text = ""


class _Result(api.Answer):
    images: tuple[_Image, ...] = ()


class _Error(api.Answer):
    code: api.Code = None
    message: api.Text = ""


class SdCppJob(api.Answer):
    """A job as an order and a poll are answered."""

    id: api.Id
    status: api.Text = ""
    result: _Result = _Result()
    error: _Error = _Error()

    @property
    def images(self) -> tuple[str, ...]:
        """In base64."""
        return tuple(one.b64_json for one in self.result.images)


def job_call(body: Mapping[str, Any]) -> api.ApiCall:
    """The order for a job that is the same as the order for an ``img2img`` with this body."""
    sampling = {
        "sample_steps": body.get("steps"),
        "sample_method": body.get("sampler_name"),
        "scheduler": body.get("scheduler"),
        "guidance": {"txt_cfg": body["cfg_scale"]} if "cfg_scale" in body else None,
    }
    job = {
        "prompt": body.get("prompt") or PROMPT,
        "negative_prompt": body.get("negative_prompt"),
        "width": body["width"],
        "height": body["height"],
        "strength": body.get("denoising_strength", STRENGTH),
        "seed": body["seed"],
        "batch_count": body.get("n_iter", 1),
        "init_image": body["init_images"][0],
        "mask_image": body["mask"],
        "sample_params": _given(sampling),
        "embed_image_metadata": False,
        "output_format": "png",
    }
    return api.ApiCall("POST", "/sdcpp/v1/img_gen", json=_given(job))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
