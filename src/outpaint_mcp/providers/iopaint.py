"""IOPaint (lama-cleaner): one call that paints what a mask covers. https://github.com/Sanster/IOPaint

The facts are those of version 1.6.0 as it answered on a CPU (November 2026). It runs one model for everybody, which is
never switched from here: a name that it does not have breaks every later call. Its extender is not used: erase models
ignore it in silence, and answer in the old size.
"""

import base64
import contextlib
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final

import anyio
from pydantic import Field

import outpaint_mcp.providers as api

ERASE_PIXELS: Final = 2_000_000
"""Up to so many pixels an erase model is given all at once (`Original`)."""
DIFFUSION_PIXELS: Final = 512 * 512, 1024 * 1024
MULTIPLE: Final = 8
MODEL_VALID_SECONDS: Final = 30.0
ANSWERS_WITHIN: Final = 2.0
"""Seconds for which `auto` waits to know the model."""
ERASE_NOTE = (
    "{model} is made to erase things: it continues what is near the border, and smears over wide areas. The local "
    "engine, or a diffusion model, may do better."
)


class Options(api.EngineOptions):
    seed: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="a whole number")] = None
    steps: Annotated[int, Field(ge=1, le=150)] = 30
    denoise: Annotated[float | None, Field(gt=0, le=1, description="above 0, up to 1")] = None
    guidance: Annotated[float | None, Field(ge=0, le=30)] = None
    sampler: Annotated[str | None, Field(min_length=1, max_length=80, description="as IOPaint names it")] = None
    negative_prompt: Annotated[str | None, Field(max_length=5000, description="text")] = None
    variants: Annotated[int, Field(ge=1, le=4)] = 1


class _Model(api.Answer):
    name: api.Text
    model_type: api.Text = ""
    need_prompt: bool = False
    support_strength: bool = False

    @property
    def erases(self) -> bool:
        """Whether it takes neither a prompt nor a seed: lama, mat, cv2 and others."""
        return self.model_type == "inpaint"


class _Samplers(api.Answer):
    names: tuple[str, ...]


class _Config(api.Answer):
    models: tuple[_Model, ...] = Field(default=(), alias="modelInfos")


class IOPaint(api.HeldOrders):
    name = "iopaint"
    title = "IOPaint"
    key_env = "IOPAINT_AUTHORIZATION"
    docs_url = "https://github.com/Sanster/IOPaint"
    usual_address = "http://127.0.0.1:8080"
    note = "Paints with the one model that your server runs; erase models (lama, mat, cv2) take no prompt and no seed."
    options = Options
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.SelfHosted.operation_with(
            Options, prompt="any; refused while the server runs an erase model"
        )
    }
    # Seconds with an erase model, minutes with a diffusion model on a CPU.
    usual_seconds = 20.0
    order_seconds = 600.0

    def __init__(self, client: api.HttpClient, **more: Any) -> None:
        super().__init__(client, **more)
        # The model that it ran when it was last asked.
        self._running: _Model | None = None
        self._asked_at = -MODEL_VALID_SECONDS

    def build_submit(self, order: api.Order, image_url: str | None = None) -> api.ApiCall:
        """The order without its pictures, for a diffusion model."""
        options: Options = self.read_options(order.options)
        body = {
            "prompt": order.prompt or None,
            "negative_prompt": options.negative_prompt,
            "sd_seed": self.seed_for(order, options.seed),
            "sd_steps": options.steps,
            "sd_strength": options.denoise,
            "sd_guidance_scale": options.guidance,
            "sd_sampler": options.sampler,
            "hd_strategy": "Original",
        }
        return api.ApiCall(
            "POST", "/api/v1/inpaint", json={name: value for name, value in body.items() if value is not None}
        )

    async def locate(self) -> None:
        await super().locate()
        if self._base_url and not self.leaves_owner and self._clock() >= self._asked_at + MODEL_VALID_SECONDS:
            self._running, self._asked_at = None, self._clock()
            with anyio.move_on_after(ANSWERS_WITHIN), contextlib.suppress(api.OutpaintError):
                self._running = await self._model(self._endpoint())

    def check(self, request: api.OutpaintRequest, kind: api.SourceKind) -> None:
        """As for every engine; where another provider may take the request, an erase model does not."""
        super().check(request, kind)
        if self._running is not None and self._running.erases and request.provider != self.name:
            self._check_erasing(self._running, request.prompt, self.read_options(request.provider_options))

    async def draw(self, held: api.Held) -> api.TaskUpdate:
        order, model = held.order, await self._model(held.endpoint)
        options: Options = self.read_options(order.options)
        sampler = None
        if model.erases:
            self._check_erasing(model, order.prompt, options)
        elif options.denoise is not None and not model.support_strength:
            raise api.UnsupportedFeatureError(f"This server runs {model.name}, which takes no denoise.")
        elif options.sampler is not None:
            names = self.read_as(_Samplers, {"names": await self.asked(held.endpoint, "/api/v1/samplers")}).names
            sampler = self.known_name("sampler", options.sampler, names)
        least, most = (0, ERASE_PIXELS) if model.erases else DIFFUSION_PIXELS
        working = api.WorkingCanvas.of(held.frame, min_pixels=least, max_pixels=most, multiple=MULTIPLE)
        canvas = await self._canvases.draw(order, working)
        call = self.build_submit(order)
        pictures = {"image": _base64(canvas.picture), "mask": _base64(canvas.mask)}
        seed = self.seed_for(order, options.seed)
        notes = [*self.size_notes(working, held.frame), *canvas.notes]
        if model.erases:
            notes.append(ERASE_NOTE.format(model=model.name))
        images: list[bytes] = []
        async with self.turn(held):
            for variant in range(options.variants):
                body = {**(call.json or {}), **pictures, "sd_seed": seed + variant}
                body |= {"sd_sampler": sampler} if sampler else {}
                try:
                    painted = await self.answered(held, replace(call, json=body), self.parse_images)
                except api.OutpaintError as error:
                    if not images:
                        raise
                    notes.append(f"Only {variant} of {options.variants} variants were drawn: {error.message}")
                    break
                images += painted.images
                held.stands(api.Status.RUNNING, 100 * len(images) / options.variants)
        return await self.finished(order.key, order.client, api.Painted(tuple(images), notes=tuple(notes)), working)

    async def inspected(self) -> api.Inspection:
        endpoint = self._endpoint()
        model = await self._model(endpoint)
        config = self.read_as(_Config, await self.asked(endpoint, "/api/v1/server-config"))
        others = [one.name for one in config.models if one.name != model.name]
        takes = "an erase model, which takes no prompt and no options" if model.erases else "which takes a prompt"
        has = f" It could be started with {api.named(others)} too." if others else ""
        return api.Inspection(f"IOPaint runs {model.name}, {takes}.{has}")

    async def _model(self, endpoint: api.Endpoint) -> _Model:
        """The model that the server runs now."""
        return self.read_as(_Model, await self.asked(endpoint, "/api/v1/model"))

    def _check_erasing(self, model: _Model, prompt: str | None, options: Options) -> None:
        """Refuse what an erase model would ignore.

        Raises:
            UnsupportedFeatureError: a prompt or an option that only a diffusion model takes.
        """
        asked = ["prompt"] if prompt else []
        asked += [name for name in options.model_fields_set if getattr(options, name) not in (None, "")]
        if asked == ["variants"] and options.variants == 1:
            return
        if asked:
            raise api.UnsupportedFeatureError(
                f"This server runs {model.name}, an erase model, which takes no {' and no '.join(sorted(asked))}.",
                "Leave it out, have the operator start IOPaint with a diffusion model, or name another provider.",
            )

    def read_error(self, status: int, body: Any) -> api.OutpaintError | None:
        if status == 500 and api.find_code(body) == "KeyError":
            # So it answers to everything after a switch to a model that it does not have.
            name = api.find_message(body).removeprefix("KeyError: ")
            return api.ConfigurationError(
                f"IOPaint was switched to a model that it does not have, {name}.",
                "Have the operator switch it to one that it has, or start it again.",
                provider_code="KeyError",
            )
        return super().read_error(status, body)

    def parse_images(self, body: Any) -> api.Painted:
        if not isinstance(body, bytes):
            raise self.unexpected("it is no image")
        return api.Painted((body,))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
