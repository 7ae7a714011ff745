"""The sdapi family: AUTOMATIC1111, Forge, reForge, SD.Next, and stable-diffusion.cpp's sd-server where it has no jobs.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API. The facts are those of their sources (2025 to August
2026): one call behind one lock, which draws on the canvas and the mask that it is sent. What anybody interrupts is
answered as if it were done, so an answer is believed only once the program was asked whether it was.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

import outpaint_mcp.providers as api
from outpaint_mcp.providers.sdcpp import CAPABILITIES, JOB_ID, PROMPT, STATES, Capabilities, SdCppJob, job_call

PIXELS: Final = 512 * 512, 1024 * 1024
# Multiples of 8 are taken; of 64 by every model, so that nothing is rounded there.
MULTIPLE: Final = 64
# Of a checkpoint that is made to paint masks, by its name, and of others.
DENOISE: Final = 1.0, 0.9
CONSTANTS: Final = {
    "resize_mode": 0,
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "inpainting_mask_invert": 0,
    "mask_blur": 8,
}
REMEMBERED_JOBS: Final = 1000


class Options(api.EngineOptions):
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="a whole number")] = None
    steps: Annotated[int, Field(ge=1, le=150)] = 25
    denoise: Annotated[float | None, Field(ge=0, le=1)] = None
    model: Annotated[str | None, Field(min_length=1, max_length=300, description="a checkpoint it has")] = None
    negative_prompt: Annotated[str | None, Field(max_length=5000, description="text")] = None
    variants: Annotated[int, Field(ge=1, le=4)] = 1
    cfg_scale: Annotated[float | None, Field(ge=1, le=30)] = None
    sampler: Annotated[str | None, Field(min_length=1, max_length=80, description="as it names it")] = None
    scheduler: Annotated[str | None, Field(min_length=1, max_length=80, description="as it names it")] = None


class _Settings(api.Answer):
    sd_model_checkpoint: api.Text = ""


class _Checkpoint(api.Answer):
    title: api.Text
    model_name: api.Text = ""


class _Checkpoints(api.Answer):
    listed: tuple[_Checkpoint, ...]


class _Sampler(api.Answer):
    name: api.Text
    aliases: tuple[str, ...] = ()


class _Samplers(api.Answer):
    listed: tuple[_Sampler, ...]


class _State(api.Answer):
    interrupted: bool = False
    skipped: bool = False
    job_count: api.Number = None
    job_timestamp: api.Text = ""


class _Progress(api.Answer):
    progress: api.Number = None
    state: _State = _State()

    @property
    def stopped(self) -> set[str]:
        """When the run began that somebody stopped; empty if none was."""
        return {self.state.job_timestamp} if self.state.interrupted or self.state.skipped else set()


class _OwnProgress(api.Answer):
    active: bool = False
    queued: bool = False
    progress: api.Number = None


class _Info(api.Answer):
    index_of_first_image: int = 0
    job_timestamp: api.Text = ""


class _Drawn(api.Answer):
    images: tuple[api.Text, ...]
    info: Any = None


class Sdapi(api.HeldOrders):
    name = "sdapi"
    title = "Stable Diffusion server"
    key_env = "SDAPI_AUTHORIZATION"
    usual_address = "http://127.0.0.1:7860, and sd-server on port 1234"
    docs_url = "https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API"
    note = (
        "AUTOMATIC1111, Forge, reForge (each started with --api), SD.Next or stable-diffusion.cpp's sd-server. A "
        "checkpoint made for inpainting does best."
    )
    options = Options
    operations: ClassVar = {api.SourceKind.IMAGE: api.SelfHosted.operation_with(Options)}
    usual_seconds = 30.0
    statuses = STATES

    def __init__(self, client: api.HttpClient, **more: Any) -> None:
        super().__init__(client, **more)
        # Without its web pages a program does not tell of single orders.
        self._tells_own = True
        # Whose images the jobs come to.
        self._clients: dict[str, str] = {}

    def build_submit(self, order: api.Order, image_url: str | None = None) -> api.ApiCall:
        """The order without its pictures, their size, and what depends on the checkpoint."""
        options: Options = self.read_options(order.options)
        body = {
            **CONSTANTS,
            "prompt": order.prompt or "",
            "negative_prompt": options.negative_prompt,
            "seed": self.seed_for(order, options.seed),
            "steps": options.steps,
            "denoising_strength": options.denoise,
            "cfg_scale": options.cfg_scale,
            "sampler_name": options.sampler,
            "scheduler": options.scheduler,
            "n_iter": options.variants if options.variants > 1 else None,
            "force_task_id": order.key,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return api.ApiCall("POST", "/sdapi/v1/img2img", json=given)

    async def draw(self, held: api.Held) -> api.TaskUpdate:
        order = held.order
        options: Options = self.read_options(order.options)
        capabilities = await self._capabilities(held.endpoint)
        checkpoint, sampler = "", options.sampler
        if capabilities is not None:
            self._check_jobs(capabilities, options)
        else:
            checkpoint = await self._checkpoint(held.endpoint, options.model)
            sampler = sampler and await self._sampler(held.endpoint, sampler)
        working = api.WorkingCanvas.of(held.frame, min_pixels=PIXELS[0], max_pixels=PIXELS[1], multiple=MULTIPLE)
        canvas = await self._canvases.draw(order, working)
        notes = [*self.size_notes(working, held.frame), *canvas.notes]
        call = self.build_submit(order)
        body: dict[str, Any] = {
            **(call.json or {}),
            **({"sampler_name": sampler} if sampler else {}),
            "width": working.padded_width,
            "height": working.padded_height,
            "init_images": [base64.b64encode(canvas.picture).decode()],
            "mask": base64.b64encode(canvas.mask).decode(),
        }
        if capabilities is not None:
            return await self._ordered_as_job(held, body, working, notes)
        is_made_for_it = _is_made_for_inpainting(checkpoint)
        body.setdefault("denoising_strength", DENOISE[not is_made_for_it])
        if options.model is not None:
            body["override_settings"] = {"sd_model_checkpoint": checkpoint}
        if not is_made_for_it:
            notes.append(f"{checkpoint} is not made for inpainting by its name; one that is goes on more seamlessly.")
        self._tells_own = True
        async with self.turn(held):
            drawn = await self.answered(held, replace(call, json=body), lambda answer: self.read_as(_Drawn, answer))
            info = self._info(drawn)
            # Before the next order of ours begins, which would make the program forget.
            if await self._was_stopped(held, info):
                message = f"The drawing was stopped on the {self.title}, so what it answered is half-drawn."
                return self.failed(order.key, api.ProviderUnavailableError(message))
        painted = api.Painted(self._images(drawn, info), notes=tuple(notes))
        return await self.finished(order.key, order.client, painted, working, options.variants)

    async def inspected(self) -> api.Inspection:
        endpoint = self._endpoint()
        try:
            capabilities = await self._capabilities(endpoint)
            if capabilities is not None:
                self._check_jobs(capabilities, Options())
                return api.Inspection("sd-server answers, whose model paints masks.")
            checkpoint = await self._checkpoint(endpoint, None)
            listed = await self._checkpoints(endpoint)
        except api.ConfigurationError as error:
            return api.Inspection(error.message, error.advice)
        plain = "" if _is_made_for_inpainting(checkpoint) else ", which is not made for inpainting by its name"
        others = [one.model_name or one.title for one in listed if one.title != checkpoint]
        has = f" It also has {api.named(others)}." if others else ""
        return api.Inspection(f"The {self.title} draws with {checkpoint}{plain}.{has}")

    async def _checkpoints(self, endpoint: api.Endpoint) -> tuple[_Checkpoint, ...]:
        """Those that the program has."""
        return self.read_as(_Checkpoints, {"listed": await self.asked(endpoint, "/sdapi/v1/sd-models")}).listed

    async def _checkpoint(self, endpoint: api.Endpoint, asked: str | None) -> str:
        """The title of the checkpoint that is to draw.

        Raises:
            ConfigurationError: the program has no API, or no checkpoint.
            InvalidRequestError: it does not have the one that is asked for.
        """
        try:
            settings = self.read_as(_Settings, await self.asked(endpoint, "/sdapi/v1/options"))
        except api.UnknownTaskError:
            raise api.ConfigurationError(
                f"The {self.title} has no API.", "Have the operator start it with --api, or check SDAPI_BASE_URL."
            ) from None
        if asked is None and settings.sd_model_checkpoint:
            return settings.sd_model_checkpoint
        listed = await self._checkpoints(endpoint)
        if not listed:
            raise api.ConfigurationError(
                f"The {self.title} has no checkpoint.",
                "Have the operator put one that is made for inpainting into its folder of checkpoints "
                "(models/Stable-diffusion), and reload the list.",
            )
        if asked is None:
            return listed[0].title
        if any(one.title == asked for one in listed):
            return asked
        name = self.known_name("model", asked, [one.model_name or one.title for one in listed])
        return next(one.title for one in listed if name in (one.model_name, one.title))

    async def _sampler(self, endpoint: api.Endpoint, asked: str) -> str:
        """The sampler as the program writes its name.

        Raises:
            InvalidRequestError: it does not have it.
        """
        listed = self.read_as(_Samplers, {"listed": await self.asked(endpoint, "/sdapi/v1/samplers")}).listed
        names = [one.name for one in listed]
        # Those that go by another name too are known by it.
        return asked if any(asked in one.aliases for one in listed) else self.known_name("sampler", asked, names)

    async def _read(self, endpoint: api.Endpoint, path: str) -> Any:
        return await self._client.read(endpoint, api.ApiCall("GET", path))

    # sd-server's jobs

    async def _capabilities(self, endpoint: api.Endpoint) -> Capabilities | None:
        """What sd-server says of itself; None where another program, or an older one, answers."""
        try:
            return self.read_as(Capabilities, await self.asked(endpoint, CAPABILITIES))
        except (api.UnknownTaskError, api.UnexpectedResponseError):
            return None

    @staticmethod
    def _check_jobs(capabilities: Capabilities, options: Options) -> None:
        """Refuse what the one model of sd-server cannot do.

        Raises:
            ConfigurationError: it paints no masks.
            UnsupportedFeatureError: another model is asked for.
        """
        if not capabilities.paints_masks:
            raise api.ConfigurationError(
                "The model that sd-server runs paints no masks.", "Have the operator start it with one that does."
            )
        if options.model is not None:
            raise api.UnsupportedFeatureError(
                "sd-server draws with the one model that it was started with.",
                "Leave model out of provider_options.",
            )

    async def _ordered_as_job(
        self, held: api.Held, body: Mapping[str, Any], working: api.WorkingCanvas, notes: Sequence[str]
    ) -> api.TaskUpdate:
        job: SdCppJob = await self._placed(
            held.endpoint, job_call(body), held.order, lambda answer: self.read_as(SdCppJob, answer)
        )
        self._clients[job.id] = held.order.client
        if len(self._clients) > REMEMBERED_JOBS:
            del self._clients[next(iter(self._clients))]
        if not held.order.prompt:
            notes = [*notes, f"sd-server needs a prompt; none was given, so it is sent this one: “{PROMPT}”"]
        return api.TaskUpdate(api.Status.QUEUED, job.id, reference=working.reference, notes=tuple(notes))

    async def poll(self, remote_id: str, reference: str | None = None) -> api.TaskUpdate:
        working = api.WorkingCanvas.from_reference(reference)
        if JOB_ID.fullmatch(remote_id) is None or working is None:
            return await super().poll(remote_id, reference)
        endpoint = self._endpoint()
        try:
            body = await self._read(endpoint, f"/sdcpp/v1/jobs/{self.path_segment(remote_id)}")
        except api.UnknownTaskError:
            message = "sd-server does not know the job any more: it was started again, or the job ended long ago."
            return self.failed(remote_id, api.ProviderUnavailableError(message))
        job = self.read_as(SdCppJob, body)
        update = self.update(job.status, remote_id=remote_id, failure=self.failure(job.error.message, job.error.code))
        if self.status_of(job.status)[0] is api.Status.SUCCEEDED:
            painted = api.Painted(tuple(map(self.decoded, job.images)))
            update = await self.finished(remote_id, self._clients.get(remote_id, ""), painted, working)
        return endpoint.tidied(update)

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        # A job whose result has expired.
        return api.UnknownTaskError("The job has expired.") if status == 410 else super().read_error(status, body)

    # How far it is

    async def watch(self, held: api.Held) -> None:
        own = await self._own_progress(held)
        if own is not None and own.queued and not own.active:
            held.stands(api.Status.QUEUED)
            return
        told = await self._progress(held.endpoint)
        if told.state.job_count != 0:
            # While nothing runs it tells of the run before this one.
            held.seen |= told.stopped
        progress = told.progress if own is None else own.progress
        held.stands(api.Status.RUNNING, None if progress is None else 100 * min(max(progress, 0), 1))

    async def _progress(self, endpoint: api.Endpoint) -> _Progress:
        """Of whatever runs, or ran last."""
        return self.read_as(_Progress, await self._read(endpoint, "/sdapi/v1/progress?skip_current_image=true"))

    async def _own_progress(self, held: api.Held) -> _OwnProgress | None:
        """Of this order; None where the program does not tell."""
        if not self._tells_own:
            return None
        asked = {"id_task": held.order.key, "id_live_preview": -1, "live_preview": False}
        try:
            call = api.ApiCall("POST", "/internal/progress", json=asked)
            return self.read_as(_OwnProgress, await self._client.read(held.endpoint, call))
        except api.UnknownTaskError:
            self._tells_own = False
            return None

    async def _was_stopped(self, held: api.Held, info: _Info) -> bool:
        """Whether somebody stopped the run that an answer is of.

        Runs are told apart by when they began. Where the answer does not say that, any that was seen to be stopped
        meanwhile is taken for it.
        """
        try:
            stopped = held.seen | (await self._progress(held.endpoint)).stopped
        except api.UnknownTaskError:
            return False  # what does not tell how far it is has nothing to stop either
        return info.job_timestamp in stopped if info.job_timestamp else bool(stopped)

    # The answer

    def _info(self, drawn: _Drawn) -> _Info:
        """What an answer says of itself, as JSON within a text; empty where that cannot be read."""
        try:
            return self.read_as(_Info, json.loads(drawn.info) if isinstance(drawn.info, str) else drawn.info)
        except (ValueError, RecursionError, api.UnexpectedResponseError):
            return _Info()

    def _images(self, drawn: _Drawn, info: _Info) -> tuple[bytes, ...]:
        """The images that were ordered, and masks and other maps after them; without the grid that may stand first."""
        first = info.index_of_first_image if 0 <= info.index_of_first_image < len(drawn.images) else 0
        return tuple(self.decoded(text) for text in drawn.images[first:])

    def parse_images(self, body: Any) -> api.Painted:
        drawn = self.read_as(_Drawn, body)
        return api.Painted(self._images(drawn, self._info(drawn)))


def _is_made_for_inpainting(checkpoint: str) -> bool:
    """Whether a checkpoint's name says so."""
    return re.search("inpaint|fill", checkpoint.casefold()) is not None
