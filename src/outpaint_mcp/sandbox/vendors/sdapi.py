"""The sdapi family as its programs' sources describe it (2025-26): AUTOMATIC1111, Forge, SD.Next, sd-server.

One synchronous call behind one lock, of whoever asks. What was interrupted is answered as if it were done. Which
program is played, and how its user has set it, is the sandbox's setting; sd-server's jobs are in `sdcpp`.
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
from anyio import to_thread
from pydantic import ConfigDict, Field
from starlette.responses import Response

from outpaint_mcp.sandbox.image_specs import Grid, Placed
from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, SandboxContext, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, Problem, RejectedError, located
from outpaint_mcp.sandbox.vendors.masked_canvas import BadMaskError, MaskedCanvas, encoded
from outpaint_mcp.sandbox.vendors.sdcpp import Jobs

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM")
WORK_STEPS = 4
"""Into how many parts the time is cut in which a picture is drawn."""
HALF = 0.5


class Lenient(Body):
    """A body whose unknown fields are ignored, as these programs do."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Img2Img(Lenient):
    init_images: list[str] | None = None
    mask: str | None = None
    width: int = Field(default=512, ge=64, le=4096)
    height: int = Field(default=512, ge=64, le=4096)
    resize_mode: int = Field(default=0, ge=0, le=3)
    inpainting_fill: int = Field(default=0, ge=0, le=3)
    inpaint_full_res: bool = True
    inpainting_mask_invert: int = Field(default=0, ge=0, le=1)
    mask_blur: int = 4
    denoising_strength: float = Field(default=0.75, ge=0, le=1)
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    steps: int = Field(default=50, ge=1, le=150)
    cfg_scale: float = 7.0
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int = Field(default=1, ge=1)
    n_iter: int = Field(default=1, ge=1)
    override_settings: Mapping[str, Any] | None = None
    force_task_id: str | None = None
    script_name: str | None = None


class TaskName(Lenient):
    id_task: str


@dataclass(slots=True)
class State:
    """What runs, as the programs tell it to everybody."""

    task_id: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    sampling_step: int = 0
    sampling_steps: int = 0
    interrupted: bool = False

    @property
    def progress(self) -> float:
        return self.sampling_step / self.sampling_steps if self.job_count and self.sampling_steps else 0.0

    def shown(self) -> dict[str, Any]:
        return {
            "skipped": False,
            "interrupted": self.interrupted,
            "stopping_generation": False,
            "job": "scripts_img2img" if self.job_count else "",
            "job_count": self.job_count,
            "job_timestamp": self.job_timestamp,
            "job_no": 0,
            "sampling_step": self.sampling_step,
            "sampling_steps": self.sampling_steps,
        }


class Sdapi(Vendor):
    name: ClassVar[str] = "sdapi"
    # Those of sd-server's jobs; the others keep none.
    statuses: ClassVar[Statuses] = Statuses(("queued", "generating"), "completed", "failed", ("cancelled",))

    def __init__(self, context: SandboxContext) -> None:
        self._jobs = Jobs(self, lambda: self.only("sd.cpp"))
        super().__init__(context)
        self._server = context.settings.sdapi_server
        self._lock = anyio.Lock()
        self._state = State()
        self._runs = 0
        self._queued: list[str] = []
        self._done: set[str] = set()

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/sdapi/v1/img2img", self.img2img, "submit"),
            Operation("GET", "/sdapi/v1/progress", self.progress, "poll"),
            Operation("POST", "/internal/progress", self.own_progress, "poll"),
            Operation("POST", "/sdapi/v1/interrupt", self.interrupt, "cancel"),
            Operation("GET", "/sdapi/v1/options", self.options, "about"),
            Operation("GET", "/sdapi/v1/sd-models", self.models, "about"),
            Operation("GET", "/sdapi/v1/samplers", self.samplers, "about"),
            *self._jobs.operations(),
        ]

    def is_authorized(self, header: str | None) -> bool:
        login = self.context.settings.sdapi_login
        right = f"Basic {base64.b64encode(login.encode()).decode()}"
        return not login or (header is not None and hmac.compare_digest(header.encode(), right.encode()))

    def restart(self) -> None:
        self.tasks.clear()
        self._state = State()

    # Answers

    def rejection(self, rejected: RejectedError) -> Response:
        status, message = rejected.status, rejected.message
        if status == 401:
            return answer_json({"detail": "Incorrect username or password"}, 401, {"www-authenticate": "Basic"})
        if self._server == "sd.cpp":
            return answer_json({"error": message}, 400 if rejected.problems else status)
        if rejected.problems:
            return answer_json({"detail": located(rejected.problems)}, 422)
        if self._server == "sdnext":
            return answer_json({"error" if status >= 500 else "detail": message}, status)
        if self._server == "a1111" and status != 404:
            is_http = rejected.code is None
            told = {
                "error": "HTTPException" if is_http else str(rejected.code),
                "detail": message if is_http else "",
                "body": "",
                "errors": f"{status}: {message}" if is_http else message,
            }
            return answer_json(told, status)
        if status >= 500 and rejected.code is not None:
            return Response("Internal Server Error", status, media_type="text/plain")
        return answer_json({"detail": message}, status)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        return RejectedError(422, str(problems[0]), problems=problems)

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        return self._jobs.shown(task, at)

    def only(self, *servers: str) -> None:
        """Refuses a route that the program which is played does not have."""
        if self._server not in servers:
            raise RejectedError(404, "Not Found")

    async def options(self, call: Call) -> Response:
        self.only("a1111", "forge", "sdnext")
        loaded = next(iter(self.context.settings.sdapi_models), None)
        title = None if loaded is None else _title(loaded)
        return answer_json({**self.context.settings.sdapi_options, "sd_model_checkpoint": title})

    async def models(self, call: Call) -> Response:
        self.only("a1111", "forge", "sdnext")
        return answer_json(
            [
                {
                    "title": _title(name),
                    "model_name": name,
                    "hash": None,
                    "sha256": None,
                    "filename": f"{name}.safetensors",
                }
                for name in self.context.settings.sdapi_models
            ]
        )

    async def samplers(self, call: Call) -> Response:
        return answer_json([{"name": name, "aliases": [], "options": {}} for name in SAMPLERS])

    async def progress(self, call: Call) -> Response:
        self.only("a1111", "forge", "sdnext")
        state = self._state
        told = {"progress": state.progress, "eta_relative": 0.0, "state": state.shown(), "current_image": None}
        return answer_json(told | {"textinfo": None} | ({"id": state.task_id} if self._server == "sdnext" else {}))

    async def own_progress(self, call: Call) -> Response:
        self.only("a1111", "forge")
        name = self.parse(TaskName, call).id_task
        is_active = bool(self._state.job_count) and self._state.task_id == name
        place = self._queued.index(name) + 1 if name in self._queued else 0
        text = "Waiting..." if not place else f"In queue: {place}/{len(self._queued)}"
        return answer_json(
            {
                "active": is_active,
                "queued": bool(place),
                "completed": name in self._done,
                "progress": self._state.progress if is_active else None,
                "eta": None,
                "live_preview": None,
                "id_live_preview": -1,
                "textinfo": None if is_active else text,
            }
        )

    async def interrupt(self, call: Call) -> Response:
        self.only("a1111", "forge", "sdnext")
        self._state.interrupted = True
        return Response(status_code=204) if self._server == "sdnext" else answer_json({})

    # Orders

    async def img2img(self, call: Call) -> Response:
        order = self.parse(Img2Img, call)
        canvas = await self._canvas(order)
        model = self._checked(order)
        name = order.force_task_id or f"task({len(self._done)})"
        self._queued.append(name)
        try:
            async with self._lock:
                self._queued.remove(name)
                return await self._drawn(call, order, canvas, model, name)
        finally:
            if name in self._queued:
                self._queued.remove(name)
            self._done.add(name)

    async def _canvas(self, order: Img2Img) -> MaskedCanvas:
        if not order.init_images:
            raise RejectedError(404, "Init image not found")
        if order.mask is None or order.script_name is not None:
            raise RejectedError(500, "neither scripts nor pictures without a mask are played here", code="ValueError")
        try:
            picture, mask = (
                base64.b64decode(one.rpartition(",")[2], validate=True) for one in (order.init_images[0], order.mask)
            )
            canvas = await to_thread.run_sync(MaskedCanvas.read, picture, mask)
        except BadMaskError:
            raise RejectedError(500, "images do not match", code="ValueError") from None
        except (OSError, ValueError):
            raise RejectedError(500, "Invalid encoded image") from None
        return canvas.stretched(order.width, order.height)

    def _checked(self, order: Img2Img) -> str:
        """The checkpoint that draws an order."""
        if self._server == "sd.cpp" and not order.prompt:
            raise RejectedError(400, "prompt required")
        if order.sampler_name is not None and order.sampler_name not in SAMPLERS:
            raise RejectedError(400, "Sampler not found")
        models = self.context.settings.sdapi_models
        asked = (order.override_settings or {}).get("sd_model_checkpoint")
        if not models or (asked is not None and asked not in map(_title, models)):
            raise RejectedError(500, f"checkpoint {asked!r} not found", code="FileNotFoundError")
        return models[0] if asked is None else str(asked)

    async def _drawn(self, call: Call, order: Img2Img, canvas: MaskedCanvas, model: str, name: str) -> Response:
        images, settings = self.context.input_images, self.context.settings
        count = order.batch_size * order.n_iter
        seed = 7 if order.seed == -1 else order.seed
        try:
            specs = [await canvas.spec(images, seed + at) for at in range(count)]
        except BadMaskError as error:
            raise RejectedError(500, str(error), code="ValueError") from None
        self._runs += 1
        self._state = state = State(name, 1, f"2026112700{self._runs:04}", sampling_steps=order.steps)
        self.order(call, "outpaint", name, specs, order, model=model, instant=True)
        try:
            for step in range(WORK_STEPS):
                await settings.sleep(settings.seconds_per_state / WORK_STEPS)
                if state.interrupted:
                    break
                state.sampling_step = order.steps * (step + 1) // WORK_STEPS
            if call.failure is not None:
                message = call.failure.message or "CUDA out of memory. Tried to allocate 2.00 GiB."
                raise RejectedError(500, message, code=call.failure.code or "OutOfMemoryError")
            done = HALF if state.interrupted else 1.0
            drawn = [await canvas.painted(images, spec, done=done) for spec in specs]
        finally:
            state.job_count, state.task_id = 0, ""
        # A grid is an image as large as all of them.
        has_grid = bool(settings.sdapi_options.get("return_grid", True)) and count > 1 and self._server != "sd.cpp"
        file_format = {"jpg": "JPEG", "webp": "WEBP"}.get(str(settings.sdapi_options.get("samples_format")), "PNG")
        files = [await to_thread.run_sync(encoded, one, file_format, order.prompt) for one in drawn]
        if has_grid:
            files.insert(0, await self._grid(specs))
        info = {
            "prompt": order.prompt,
            "seed": seed,
            "all_seeds": [seed + at for at in range(count)],
            "width": order.width,
            "height": order.height,
            "steps": order.steps,
            "sd_model_name": model,
            "index_of_first_image": int(has_grid),
            "job_timestamp": state.job_timestamp,
        }
        if self._server == "sd.cpp":
            del info["index_of_first_image"], info["job_timestamp"], info["all_seeds"]
        return answer_json(
            {
                "images": [base64.b64encode(one).decode() for one in files],
                "parameters": order.model_dump(mode="json", exclude={"init_images", "mask"}),
                "info": "" if self._server == "sdnext" else json.dumps(info),
            }
        )

    async def _grid(self, specs: Sequence[Placed]) -> bytes:
        data, _ = await self.context.input_images.bytes_of(Grid.of(tuple((*specs, *specs, *specs, *specs))[:4]))
        return data


def _title(name: str) -> str:
    return f"{name}.safetensors [{len(name):08x}]"
