"""ComfyUI, which the operator runs. https://docs.comfy.org

Facts: ComfyUI 0.27.0 and 0.3.64 as they answered, and its source (November 2026). A graph is posted under an id of
ours, under which its state is found again: so a lost order is looked up before it is sent once more. Nothing is paid.
"""

import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

import anyio
from pydantic import Field

import outpaint_mcp.providers as api
from outpaint_mcp.providers.comfyui import answers, built_in
from outpaint_mcp.providers.comfyui.engine import Engine, read_engine
from outpaint_mcp.providers.comfyui.progress import Progress
from outpaint_mcp.providers.comfyui.workflow import Workflow, read_workflow

ORDERS: Final = uuid.UUID("5d0f5b8e-6a55-4f0e-9a57-0d8a1f6f1c2e")
"""The namespace of the ids of orders."""
SEND_TIMES: Final = 3
"""How often an order is sent whose answer is lost and which the engine then does not know."""
LOOK_AFTER_SECONDS: Final = 1.0
FOUND_SECONDS: Final = 60.0
"""How long what the engine was found to have is taken to be so."""
MULTIPLE: Final = 16
"""The VAE cuts sides to multiples of 8; FLUX and Qwen work in steps of 16."""
MAX_IMAGE_BYTES: Final = 100_000_000
FREE: Final = api.Cost(amount=0, unit="USD", usd=0)
START_IT: Final = (
    "Nothing was ordered. Have the operator start ComfyUI, or set COMFYUI_BASE_URL to its address (by itself it "
    "listens on http://127.0.0.1:8188)."
)
LOST: Final = (
    "ComfyUI no longer knows the order: it was restarted, or the order was deleted from its queue. Nothing was paid."
)


class ComfyuiOptions(api.EngineOptions):
    seed: Annotated[int | None, Field(ge=0, le=2**64 - 1)] = None
    steps: Annotated[int | None, Field(ge=1, le=10_000)] = None
    denoise: Annotated[float | None, Field(ge=0, le=1)] = None
    model: Annotated[str | None, Field(max_length=200, description="a file as ComfyUI lists it")] = None
    negative_prompt: Annotated[str | None, Field(max_length=8192)] = None
    variants: Annotated[int, Field(ge=1, le=4)] = 1


class _Accepted(api.Answer):
    prompt_id: api.Id


class _Uploaded(api.Answer):
    name: str
    subfolder: api.Text = ""


class Comfyui(api.SelfHosted):
    name = "comfyui"
    title = "ComfyUI"
    key_env = "COMFYUI_AUTHORIZATION"
    docs_url = "https://docs.comfy.org"
    note = (
        "Runs on the operator's machine, with FLUX Fill, Qwen inpaint or an inpaint checkpoint, whichever it has, or a "
        "workflow of the operator's. About a megapixel is drawn and scaled; the original is pasted back exactly."
    )
    options = ComfyuiOptions
    takes_workflow = True
    operations: ClassVar = {api.SourceKind.IMAGE: api.SelfHosted.operation_with(ComfyuiOptions)}
    fetch_path = "/history/{id}"
    id_pattern = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    statuses: ClassVar = api.status_words(
        queued="pending", running="in_progress", succeeded="success", failed="error", cancelled="interrupted"
    )
    idempotent = True
    first_poll = poll_interval = 2.0
    # By hardware; inferred.
    usual_seconds = 60.0

    def __init__(
        self,
        client: api.HttpClient,
        *,
        keep: api.KeepImage,
        workflow: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        **more: Any,
    ) -> None:
        super().__init__(client, **more)
        self._keep = keep
        self._sleep = sleep
        self._progress = Progress()
        self._found: tuple[float, Engine] | None = None
        self._own: Workflow | None = None
        self._unusable: api.OutpaintError | None = None
        self._own_hash = ""
        if workflow is not None:
            try:
                self._own, self._own_hash = read_workflow(workflow)
            except api.ConfigurationError as error:
                self._unusable = error

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._progress.running():
            yield

    # What is asked

    def check(self, request: api.OutpaintRequest, kind: api.SourceKind) -> None:
        super().check(request, kind)
        if self._unusable is not None:
            raise self._unusable.again()
        if self._own is not None:
            self._own.check({"prompt": request.prompt, **_settings(self.read_options(request.provider_options))})

    def normalised_options(self, options: Mapping[str, Any], arguments: api.ProviderArguments) -> dict[str, Any]:
        # Another graph makes another image.
        workflow = {"workflow": self._own_hash} if self._own_hash else {}
        return super().normalised_options(options, arguments) | workflow

    def read_options(self, options: Mapping[str, Any]) -> ComfyuiOptions:
        given = {name: one for name, one in options.items() if (name, one) != ("workflow", self._own_hash)}
        found: ComfyuiOptions = super().read_options(given)
        return found

    def build_submit(self, order: api.Order, image_url: str | None = None) -> api.ApiCall:
        """The request of an order, for a server that has an inpaint checkpoint, with the canvas under this name."""
        return self.build_prompt(self._own or built_in.CHECKPOINT, order, image_url or "", image_url or "")

    def build_prompt(self, workflow: Workflow, order: api.Order, canvas: str, mask: str) -> api.ApiCall:
        """The request that orders: the graph with its canvas and mask, which were uploaded under these names."""
        options = self.read_options(order.options)
        values = {"prompt": order.prompt, **_settings(options)}
        workflow.check(values)
        values |= {"image": canvas, "mask": mask, "seed": self.seed_of(order), "result": answers.PREFIX + order.key}
        graph = workflow.filled(values, options.variants)
        # Progress is told to the client of that id.
        prompt_id = _id_of(order)
        return api.ApiCall("POST", "/prompt", json={"prompt": graph, "prompt_id": prompt_id, "client_id": prompt_id})

    def seed_of(self, order: api.Order) -> int:
        """The order's seed: without one of its own it is drawn anew, since the same graph would not be run again."""
        given = self.read_options(order.options).seed
        # As large as a number can be that an editor in a browser keeps.
        return given if given is not None else int(hashlib.sha256(order.key.encode()).hexdigest(), 16) % 2**53

    # Ordering

    async def start(self, order: api.Order) -> api.TaskUpdate:
        if order.frame is None:
            raise api.UnexpectedResponseError("ComfyUI extends images, and was given a task.")
        model = self.read_options(order.options).model
        try:
            workflow = self._chosen(await self.found(), model)
        except (api.ConfigurationError, api.InvalidRequestError):
            # What was missing may have been put there since.
            self._found = None
            workflow = self._chosen(await self.found(), model)
        working = api.WorkingCanvas.of(
            order.frame, max_pixels=workflow.max_pixels, min_pixels=workflow.min_pixels, multiple=MULTIPLE
        )
        update = None
        with contextlib.suppress(api.UnknownTaskError):
            update = await self._state(_id_of(order))
        notes: tuple[str, ...] = ()
        if update is None:
            canvas = await self._canvases.draw(order, working, mask_in_alpha=True)
            notes = (*self.size_notes(working, order.frame), *canvas.notes)
            name = mask = await self._uploaded_as(order, "canvas", canvas.picture)
            if workflow.mask_is_apart:
                mask = await self._uploaded_as(order, "mask", canvas.mask)
            update = await self._sent(self.build_prompt(workflow, order, name, mask), order)
        return replace(update, reference=working.reference, notes=(*update.notes, *notes))

    async def found(self) -> Engine:
        """What the engine has; asked anew after a minute.

        Raises:
            OutpaintError: it cannot be asked.
        """
        if self._found is not None and self._clock() < self._found[0] + FOUND_SECONDS:
            return self._found[1]
        own = () if self._own is None else self._own.classes
        try:
            stats = await self.asked("/system_stats")
        except api.ProviderUnavailableError as error:
            raise api.ProviderUnavailableError(error.message, START_IT) from error
        except (api.UnknownTaskError, api.UnexpectedResponseError) as error:
            raise api.ConfigurationError(f"{self.base_url_env()} does not lead to ComfyUI.", START_IT) from error
        described = {kind: await self.asked(f"/object_info/{quote(kind, safe='')}") for kind in own or built_in.LOADERS}
        engine = read_engine(stats, described, own)
        self._found = self._clock(), engine
        return engine

    async def inspected(self) -> api.Inspection:
        self._found = None
        engine = await self.found()
        if self._unusable is not None:
            return api.Inspection(f"{engine} {self._unusable.message}", self._unusable.advice)
        try:
            workflow = self._chosen(engine, None)
        except api.ConfigurationError as error:
            return api.Inspection(f"{engine} {error.message}", error.advice)
        model = f" with {workflow.model}" if workflow.files else ""
        return api.Inspection(f"{engine} It draws by {'the workflow ' if self._own else ''}{workflow.name}{model}.")

    def _chosen(self, engine: Engine, model: str | None) -> Workflow:
        """The graph for an order.

        Raises:
            ConfigurationError: the engine cannot run it.
            InvalidRequestError: it has no such model.
        """
        if self._own is None:
            return built_in.chosen(engine.choices, model)
        engine.check_nodes(self._own.name)
        return self._own

    async def _uploaded_as(self, order: api.Order, what: str, data: bytes) -> str:
        """Upload a picture; returns the name by which the graph loads it."""
        file = api.UploadFile("image", f"{order.key}-{what}.png", "image/png", data)
        form = {"subfolder": answers.PREFIX.rstrip("/"), "overwrite": "true"}
        body = await self._client.read(
            self._endpoint(order), api.ApiCall("POST", "/upload/image", form=form, files=(file,))
        )
        uploaded = self.read_as(_Uploaded, body)
        return f"{uploaded.subfolder}/{uploaded.name}" if uploaded.subfolder else uploaded.name

    async def _sent(self, call: api.ApiCall, order: api.Order) -> api.TaskUpdate:
        """Send an order; one whose answer is lost is looked up, and sent again if the engine does not know it."""
        lost: api.OrderUnconfirmedError | None = None
        for _ in range(SEND_TIMES):
            try:
                if lost is not None:
                    await self._sleep(LOOK_AFTER_SECONDS)
                    if (update := await self._state(_id_of(order))) is not None:
                        return update
                return await self._client.order(self._endpoint(order), call, self.parse_submit)
            except api.OrderUnconfirmedError as error:
                lost = error
            except api.ProviderUnavailableError:
                if lost is None:
                    raise
            except api.OutpaintError as error:
                if error.provider_code in answers.KINDS:
                    # The other nodes of the graph may have been taken.
                    self._found = None
                    await self._cancel(_id_of(order))
                raise
        raise lost or api.UnexpectedResponseError("ComfyUI was not asked.")

    async def _cancel(self, prompt_id: str) -> None:
        """Take an order of ours back; nobody else's is touched. What cannot be cancelled is left."""
        with contextlib.suppress(api.OutpaintError):
            await self.asked(f"/api/jobs/{prompt_id}/cancel", {})
            return
        with contextlib.suppress(api.OutpaintError):
            found = self.parse_queue(await self.asked("/queue"), prompt_id)
            if found is not None and found.place:
                await self.asked("/queue", {"delete": [prompt_id]})
            elif found is not None and (await self.found()).heeds_ids:
                await self.asked("/interrupt", {"prompt_id": prompt_id})

    async def asked(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the engine answers to one request, which is not repeated.

        Raises:
            OutpaintError: it does not answer, or refuses.
        """
        call = api.ApiCall("GET", path) if body is None else api.ApiCall("POST", path, json=body)
        return await self._client.read(self._endpoint(), call, attempts=1)

    # Following

    async def poll(self, remote_id: str, reference: str | None = None) -> api.TaskUpdate:
        update = await self._state(remote_id)
        if update is not None:
            return update
        if reference is None:
            raise api.UnknownTaskError("ComfyUI does not know this task (any more).")
        failure = api.Failure(code=api.ProviderUnavailableError.code, message=LOST, retryable=True)
        return api.TaskUpdate(api.Status.FAILED, remote_id, failure=failure, cost=FREE)

    async def _state(self, prompt_id: str) -> api.TaskUpdate | None:
        """How an order of this id stands; None if the engine does not know it."""
        endpoint, fetch = self._endpoint(), self.build_fetch(prompt_id)
        if history := await self._client.read(endpoint, fetch):
            self._progress.leave(prompt_id)
            return await self._with_images(self.parse_fetch(history))
        queued = self.parse_queue(await self._client.read(endpoint, api.ApiCall("GET", "/queue")), prompt_id)
        if queued is not None and queued.place:
            return self.update("pending", remote_id=prompt_id)
        if queued is not None:
            self._progress.follow(prompt_id, endpoint.base_url, endpoint.headers, is_near=endpoint.is_near)
            percent = self._progress.percent(prompt_id, queued.images)
            return self.update("in_progress", remote_id=prompt_id, progress=percent)
        self._progress.leave(prompt_id)
        # It may have ended between the two questions.
        history = await self._client.read(endpoint, fetch)
        return await self._with_images(self.parse_fetch(history)) if history else None

    def parse_submit(self, body: Any) -> api.TaskUpdate:
        return api.TaskUpdate(api.Status.QUEUED, self.read_as(_Accepted, body).prompt_id, cost=FREE)

    def parse_queue(self, body: Any, prompt_id: str) -> answers.Queued | None:
        """Where an order is in the queue; None if it is not there.

        Raises:
            UnexpectedResponseError: it is no queue.
        """
        try:
            return answers.queued(body, prompt_id)
        except ValueError:
            raise self.unexpected("its queue is not what its documentation says") from None

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        match body:
            case {**entries} if len(entries) == 1 and isinstance(entry := next(iter(entries.values())), dict):
                ended = answers.ended_of(entry)
            case _:
                ended = None
        if ended is None:
            raise self.unexpected("its history is not what its documentation says")
        prompt_id = str(next(iter(body)))
        if ended.word == "interrupted":
            note = "Somebody interrupted the order in ComfyUI. Nothing was paid."
            return replace(self.update(ended.word, remote_id=prompt_id, notes=(note,)), cost=FREE)
        failure = self.failure(ended.reason, ended.code)
        if ended.word == "success" and not ended.paths:
            message = "ComfyUI finished without an image: the graph saved none under our name."
            failure = api.Failure(code=api.UnexpectedResponseError.code, message=message)
            return api.TaskUpdate(api.Status.FAILED, prompt_id, failure=failure, cost=FREE)
        if ended.advice:
            failure = failure.model_copy(update={"message": f"{failure.message} {ended.advice}"})
        urls = tuple(self._base_url + path for path in ended.paths)
        update = self.update(ended.word, remote_id=prompt_id, urls=urls, failure=failure, cost=FREE)
        return replace(update, is_grid=len(update.images) > 1)

    async def _with_images(self, update: api.TaskUpdate) -> api.TaskUpdate:
        """The update with its images fetched and stored: the engine's own address is nobody else's business."""
        endpoint = replace(self._endpoint(), answers_with_images=True, max_answer_bytes=MAX_IMAGE_BYTES)
        kept = []
        for image in update.images:
            path = image.url.removeprefix(self._base_url)
            try:
                data = await self._client.read(endpoint, api.ApiCall("GET", path))
                kept.append(await self._keep(data, ""))
            except (api.UnknownTaskError, api.InvalidImageError) as error:
                gone = isinstance(error, api.UnknownTaskError)
                why = "is no longer in its output folder" if gone else f"cannot be read: {error.message}"
                failure = api.Failure(
                    code=api.ProviderUnavailableError.code, message=f"ComfyUI's image {why}.", retryable=True
                )
                return replace(update, status=api.Status.FAILED, images=(), failure=failure, is_grid=None)
        return replace(update, images=tuple(kept))

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        return answers.refusal(self.title, body) if status in (200, 400) else super().read_error(status, body)


def _id_of(order: api.Order) -> str:
    return str(uuid.uuid5(ORDERS, order.key))


def _settings(options: ComfyuiOptions) -> dict[str, Any]:
    """What options set in a graph besides the seed, by its marks."""
    negative, model = options.negative_prompt, options.model
    return {"steps": options.steps, "denoise": options.denoise, "negative": negative, "model": model}
