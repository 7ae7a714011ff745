"""ComfyUI's server, as 0.27.0 answered (November 2026), without its models: the sandbox's painter takes their place.

It asks for no key. One prompt runs at a time; equal graphs are served from a cache; a restart forgets everything but
the files.
"""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio
from anyio import to_thread
from PIL import Image, ImageFilter, PngImagePlugin
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.sandbox.image_specs import Placed
from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors import comfyui_graph
from outpaint_mcp.sandbox.vendors.answers import answer_json
from outpaint_mcp.sandbox.vendors.base import Call, Operation, Statuses, Vendor
from outpaint_mcp.sandbox.vendors.bodies import Body, RejectedError, Uuid, json_or_none

VERSION = "0.27.0"
TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
_MESSAGES = {"success": "execution_success", "error": "execution_error", "interrupted": "execution_interrupted"}


class Prompt(Body):
    """The body of an order: what is not known is ignored by ComfyUI, and refused here."""

    prompt: dict[str, Any]
    prompt_id: Uuid | None = None
    client_id: str = ""
    extra_data: dict[str, Any] = Field(default_factory=dict)
    front: bool = False


@dataclass(slots=True)
class Job:
    """What is kept of a prompt beside its task: its number, its outputs, and the pictures they are painted from."""

    number: int
    prompt: Prompt
    outputs: list[str]
    pictures: dict[str, tuple[bytes, bytes | None]]
    files: dict[str, str] = field(default_factory=dict)
    broken: str = ""
    cached: bool = False


class ComfyUI(Vendor):
    name: ClassVar[str] = "comfyui"
    key: ClassVar[str] = ""
    key_header: ClassVar[str] = "authorization"
    statuses: ClassVar[Statuses] = Statuses(("pending", "in_progress"), "success", "error")
    choices: dict[tuple[str, str], list[str]]
    """The model files that it has."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.choices = {("CheckpointLoaderSimple", "ckpt_name"): ["512-inpainting-ema.safetensors"]}
        self._jobs: dict[str, Job] = {}
        self._uploads: dict[str, bytes] = {}
        self._saved: dict[str, tuple[str, Job]] = {}
        self._cache: dict[str, str] = {}
        self._number = 0

    @classmethod
    def environment(cls, base_url: str) -> dict[str, str]:
        return {"COMFYUI_BASE_URL": base_url}

    def is_authorized(self, header: str | None) -> bool:
        return True

    def routes(self) -> list[BaseRoute]:
        return [*super().routes(), WebSocketRoute("/ws", self.socket)]

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/prompt", self.submit, "submit"),
            Operation("GET", "/history/{id}", self.history, "poll"),
            Operation("GET", "/queue", self.queue, "poll"),
            Operation("POST", "/queue", self.delete, "cancel"),
            Operation("POST", "/interrupt", self.interrupt, "cancel"),
            Operation("POST", "/api/jobs/{id}/cancel", self.cancel, "cancel"),
            Operation("GET", "/view", self.view, "image"),
            Operation("POST", "/upload/image", self.upload, "upload"),
            Operation("GET", "/system_stats", self.system_stats, "about"),
            Operation("GET", "/object_info/{id}", self.object_info, "about"),
        ]

    def rejection(self, rejected: RejectedError) -> Response:
        match rejected.status:
            case 400:
                problem = {"type": "value_bigger_than_max", "message": rejected.message, "details": ""}
                nodes = {"8": {"errors": [problem], "dependent_outputs": ["10"], "class_type": "KSampler"}}
                error = comfyui_graph.GraphError(
                    "prompt_outputs_failed_validation", "Prompt outputs failed validation", nodes=nodes
                )
                return _refused(error)
            case 500:
                return Response(TROUBLE, 500, media_type="text/plain")
        # It has no refusals of other kinds: these are of what stands before it.
        return Response(rejected.message, rejected.status, media_type="text/plain")

    def restart(self) -> None:
        """Forgets all prompts and the cache; the files stay."""
        self._jobs.clear()
        self._cache.clear()
        self.tasks.clear()

    # Ordering

    async def submit(self, call: Call) -> Response:
        if call.request.headers.get("origin", call.origin) != call.origin:
            return Response(status_code=403)
        body = json_or_none(call.raw)
        if not isinstance(body, dict):
            return Response(TROUBLE, 500, media_type="text/plain")
        if "prompt" not in body:
            return _refused(comfyui_graph.GraphError("no_prompt", "No prompt provided", "No prompt provided"))
        if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(body.get("prompt_id"))) is None:
            details = "prompt_id must be a UUID string in canonical lowercase hyphenated form"
            return _refused(comfyui_graph.GraphError("invalid_prompt_id", "prompt_id must be a valid UUID", details))
        try:
            checked = comfyui_graph.check(body["prompt"], self.choices, self._uploads)
        except comfyui_graph.GraphError as error:
            return _refused(error)
        except TypeError:
            return Response(TROUBLE, 500, media_type="text/plain")
        prompt = self.parse(Prompt, call)
        self._number += 1
        job = self._job(prompt, checked.outputs)
        job.broken = await to_thread.run_sync(_broken, [canvas for canvas, _ in job.pictures.values()])
        prompt_id = str(prompt.prompt_id)
        # Before the task is made: a second run of the same id writes over the first.
        self._jobs[prompt_id] = job
        self.order(call, "outpaint", prompt_id, [], prompt, instant=job.cached)
        return answer_json({"prompt_id": prompt_id, "number": job.number, "node_errors": checked.node_errors})

    def _job(self, prompt: Prompt, outputs: list[str]) -> Job:
        graph = prompt.prompt
        job = Job(self._number, prompt, outputs, {node: self._pictures(graph, node) for node in outputs})
        signatures = {node: comfyui_graph.signature(graph, node) for node in outputs}
        job.cached = all(signature in self._cache for signature in signatures.values())
        for node, signature in signatures.items():
            if signature not in self._cache:
                prefix = str(graph[node]["inputs"].get("filename_prefix", "ComfyUI"))
                count = 1 + sum(name.startswith(f"{prefix}_") for name in self._saved)
                self._cache[signature] = f"{prefix}_{count:05}_.png"
                self._saved[self._cache[signature]] = (node, job)
            job.files[node] = self._cache[signature]
        return job

    def _pictures(self, graph: dict[str, Any], output: str) -> tuple[bytes, bytes | None]:
        """The canvas that an output is painted from, and its mask if that is a picture of its own."""
        loaded = [node for node in comfyui_graph.upstream(graph, output) if graph[node]["class_type"] == "LoadImage"]
        masks = [node for node in comfyui_graph.upstream(graph, output) if graph[node]["class_type"] == "LoadImageMask"]
        canvas = self._uploads[graph[loaded[0]]["inputs"]["image"]] if loaded else b""
        return canvas, self._uploads[graph[masks[0]]["inputs"]["image"]] if masks else None

    def start_time(self, now: float) -> float:
        return max([now, *(task.finished_at for task in self.tasks.ordered() if task.finished_at > now)])

    async def upload(self, call: Call) -> Response:
        async with call.request.form(max_files=2, max_fields=10, max_part_size=100_000_000) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                return Response(status_code=400)
            folder, kind = str(form.get("subfolder", "")), str(form.get("type", "input"))
            if ".." in folder:
                return Response(status_code=400)
            if kind not in ("input", "temp", "output"):
                return Response(TROUBLE, 500, media_type="text/plain")
            name, data = image.filename or "image.png", await image.read()
            overwrite = form.get("overwrite") in ("true", "1")
        stem, _, suffix = name.rpartition(".")
        place = f"{folder}/{name}" if folder else name
        number = 0
        while not overwrite and self._uploads.get(place, data) != data:
            number += 1
            name = f"{stem} ({number}).{suffix}"
            place = f"{folder}/{name}" if folder else name
        self._uploads[place] = data
        return answer_json({"name": name, "subfolder": folder, "type": kind})

    # Following

    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        """The history of a prompt: nothing before it has ended."""
        job = self._jobs[task.id]
        word = self._word(task, at)
        if word not in _MESSAGES:
            return {}
        message = _MESSAGES[word]
        details: dict[str, Any] = {"prompt_id": task.id, "timestamp": int(1000 * task.finished_at)}
        if word == "error":
            sampler, _ = comfyui_graph.steps(job.prompt.prompt, job.outputs[0])
            node = job.prompt.prompt[sampler]["class_type"]
            reason = job.broken or task.failure_message("It went wrong\n")
            kind = str(task.failure_code("RuntimeError"))
            details |= {"node_id": sampler, "node_type": node, "exception_message": reason, "exception_type": kind}
            details |= {"traceback": ['  File "/srv/comfy/execution.py", line 1, in execute\n'], "executed": []}
        cached = [*job.prompt.prompt] if job.cached else []
        messages = [
            ["execution_start", {"prompt_id": task.id, "timestamp": int(1000 * task.created_at)}],
            ["execution_cached", {"nodes": cached, "prompt_id": task.id}],
            [message, details],
        ]
        outputs = {node: {"images": [_file(name)]} for node, name in job.files.items()}
        ok = word == "success"
        return {
            task.id: {
                "prompt": self._queued(task, job),
                "outputs": outputs if ok else {},
                "status": {"status_str": "success" if ok else "error", "completed": ok, "messages": messages},
                "meta": {},
            }
        }

    def _word(self, task: Task, at: float) -> str:
        """pending, in_progress, success, error or interrupted."""
        stage = task.stage(at)
        if not stage.final:
            return self.statuses.running[stage.step]
        if task.cancelled_at is not None:
            return "interrupted"
        return "success" if stage.succeeded and not self._jobs[task.id].broken else "error"

    def _queued(self, task: Task, job: Job) -> list[Any]:
        extra = {"client_id": job.prompt.client_id, "create_time": int(1000 * task.created_at)}
        return [job.number, task.id, job.prompt.prompt, extra, job.outputs]

    async def history(self, call: Call) -> Response:
        task = self.tasks.get(call.task_id)
        return answer_json({} if task is None else self.show(task, self.context.now(), call.origin))

    async def queue(self, call: Call) -> Response:
        found: dict[str, list[Any]] = {"in_progress": [], "pending": []}
        now = self.context.now()
        for task in self.tasks.ordered():
            if (word := self._word(task, now)) in found:
                found[word].append(self._queued(task, self._jobs[task.id]))
        return answer_json({"queue_running": found["in_progress"], "queue_pending": found["pending"]})

    async def view(self, call: Call) -> Response:
        query = call.request.query_params
        name, folder = query.get("filename", ""), query.get("subfolder", "")
        if ".." in name or query.get("type", "output") not in ("input", "temp", "output"):
            return Response(status_code=400)
        found = self._saved.get(f"{folder}/{name}" if folder else name)
        if found is None:
            return Response(status_code=404)
        node, job = found
        canvas, mask = job.pictures[node]
        frame, part = await to_thread.run_sync(_kept, canvas, mask)
        stored = await self.context.input_images.store(part)
        graph = job.prompt.prompt
        seed = graph[comfyui_graph.steps(graph, node)[0]]["inputs"].get("seed", 0)
        painted, _ = await self.context.input_images.bytes_of(Placed.of(stored.image, frame, seed % 5))
        data = await to_thread.run_sync(_as_saved, painted, json.dumps(graph))
        return Response(data, media_type="image/png", headers={"content-disposition": f'filename="{name}"'})

    async def socket(self, socket: WebSocket) -> None:
        """Tells a client how far its prompts are: each step of a sampler, then how the prompt ended."""
        await socket.accept()
        client = socket.query_params.get("clientId", "")
        await socket.send_json(
            {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}, "sid": client}}
        )
        await socket.send_bytes(b"\x00\x00\x00\x01 a preview")
        told: dict[tuple[str, str], int] = {}
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                for message in self._news(client, told):
                    await socket.send_json(message)
                # What the client says is heard only as its end.
                with anyio.move_on_after(max(self.context.settings.seconds_per_state / 10, 0.01)):
                    await socket.receive_text()

    def _news(self, client: str, told: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
        now = self.context.now()
        for task in self.tasks.ordered():
            job = self._jobs[task.id]
            if job.prompt.client_id != client or self._word(task, now) == "pending":
                continue
            begun = task.state_ends[0] if task.state_ends else now
            part = min((now - begun) / max(task.finished_at - begun, 1e-9), 1.0)
            for at, output in enumerate(job.outputs):
                node, steps = comfyui_graph.steps(job.prompt.prompt, output)
                value = int(steps * min(max(part * len(job.outputs) - at, 0), 1))
                if value > told.get((task.id, node), 0):
                    told[task.id, node] = value
                    data = {"value": value, "max": steps, "prompt_id": task.id, "node": node}
                    yield {"type": "progress", "data": data}

    # Cancelling

    async def delete(self, call: Call) -> Response:
        body = json_or_none(call.raw)
        for prompt_id in body.get("delete", []) if isinstance(body, dict) else []:
            task = self.tasks.get(str(prompt_id))
            if task is not None and self._word(task, self.context.now()) == "pending":
                self.tasks.remove(task.id)
        return Response()

    async def interrupt(self, call: Call) -> Response:
        body = json_or_none(call.raw)
        prompt_id = body.get("prompt_id") if isinstance(body, dict) else None
        for task in self.tasks.ordered():
            if prompt_id in (None, task.id) and self._word(task, self.context.now()) == "in_progress":
                task.cancelled_at = self.context.now()
        return Response()

    async def cancel(self, call: Call) -> Response:
        task, now = self.tasks.get(call.task_id), self.context.now()
        word = "" if task is None else self._word(task, now)
        if task is not None and word == "pending":
            self.tasks.remove(task.id)
        elif task is not None and word == "in_progress":
            task.cancelled_at = now
        return answer_json({"cancelled": word in ("pending", "in_progress")})

    # What it is

    async def system_stats(self, call: Call) -> Response:
        system = {"os": "linux", "comfyui_version": VERSION, "python_version": "3.12.0", "pytorch_version": "2.8.0"}
        device = {"name": "cpu", "type": "cpu", "index": None, "vram_total": 24 * 1024**3, "vram_free": 22 * 1024**3}
        return answer_json({"system": system, "devices": [device]})

    async def object_info(self, call: Call) -> Response:
        return answer_json(comfyui_graph.described(call.task_id, self.choices))

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        return Response(status_code=404, media_type="application/octet-stream")


def _refused(error: comfyui_graph.GraphError) -> Response:
    return answer_json({"error": error.error, "node_errors": error.node_errors}, 400)


def _file(place: str) -> dict[str, str]:
    folder, _, name = place.rpartition("/")
    return {"filename": name, "subfolder": folder, "type": "output"}


def _broken(pictures: list[bytes]) -> str:
    """What ComfyUI says of a picture that it cannot open; empty where it can open all."""
    for data in pictures:
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except (OSError, ValueError, SyntaxError):
            return "cannot identify image file '/srv/comfy/input/bad.png'\n"
    return ""


def _kept(canvas: bytes, mask: bytes | None) -> tuple[Frame, bytes]:
    """Where what is not to be painted lies on the canvas, as that is cut, and its pixels."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(canvas)) as image:
        if mask is None:
            kept = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
        else:
            with Image.open(io.BytesIO(mask)) as opened:
                kept = opened.convert("RGB").getchannel("R").point(lambda level: 255 - level)
        left, top, right, bottom = kept.point(lambda level: 255 * (level == 255)).getbbox() or (0, 0, *image.size)
        # To multiples of 8, as InpaintModelConditioning and VAEEncode do.
        size = tuple(side // 8 * 8 for side in image.size)
        cut = tuple((side - whole) // 2 for side, whole in zip(image.size, size, strict=True))
        left, right = max(left - cut[0], 0), min(right - cut[0], size[0])
        top, bottom = max(top - cut[1], 0), min(bottom - cut[1], size[1])
        image.convert("RGB").crop((left + cut[0], top + cut[1], right + cut[0], bottom + cut[1])).save(buffer, "PNG")
    return Frame(size[0], size[1], left, top, right - left, bottom - top), buffer.getvalue()


def _as_saved(painted: bytes, graph: str) -> bytes:
    """The picture as the VAE leaves it, a little softer and brighter, with the graph in its file."""
    buffer, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("prompt", graph)
    with Image.open(io.BytesIO(painted)) as image:
        soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(1)).point(lambda level: level + 6)
        soft.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()
