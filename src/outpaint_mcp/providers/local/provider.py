"""The local engine as a provider: no key, no price, nothing leaves the machine.

It keeps its own books in a folder, as a vendor does on its side: a job's file says what is to be drawn, a result's file
what came of it. So a job survives the process that drew it, and is drawn again by the one that asks for it next.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from outpaint_mcp.domain import values
from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    OutpaintError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.private_files import make_folder, open_private
from outpaint_mcp.domain.provider_info import Original, SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, ProviderArguments, Side, SourceKind
from outpaint_mcp.domain.task import Confidence, Cost, Failure, ResultImage, Status, TaskUpdate
from outpaint_mcp.images.fair_queue import Place
from outpaint_mcp.images.files import url_of
from outpaint_mcp.images.shelves import AtHand, as_it_is
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.declarations import Argument, Operation
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import LARGEST_SIDE, MAX_PIXELS, Canvas, fitted
from outpaint_mcp.providers.local.workers import DrawJob, Workers, seed_of

Quality = Literal["fast", "balanced", "best"]
Format = Literal["png", "jpeg", "webp"]
ModelT = TypeVar("ModelT", bound=BaseModel)

_MEGAPIXELS = f"{MAX_PIXELS // 10**6} megapixels"
_LIMIT = f"for a new image of more than {_MEGAPIXELS} the image is scaled down first"


class LocalOptions(BaseModel):
    """What `provider_options` may hold for the local engine."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seed: Annotated[int | None, Field(ge=0, lt=2**63), BeforeValidator(values.whole)] = None
    quality: Annotated[Quality, BeforeValidator(lambda value: values.choice(value, get_args(Quality)))] = "balanced"
    variants: Annotated[int, Field(ge=1, le=4), BeforeValidator(values.whole)] = 1
    format: Annotated[Format, BeforeValidator(values.file_format)] = "png"


class _Job(BaseModel):
    """What is to be drawn, as the job's file holds it."""

    source: Path
    canvas: tuple[int, int, int, int]
    size: tuple[int, int] | None = None
    quality: Quality
    seeds: tuple[int, ...]
    format: Format
    client: str = ""


class _Result(BaseModel):
    """What came of it, as the result's file holds it: images, or a failure."""

    images: tuple[tuple[Path, str, int, int], ...] = ()
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    confidence: dict[Side, Confidence] | None = None


class LocalProvider(Provider):
    """Draws with the engine of this package, in worker processes.

    Args:
        folder: where the jobs' files are kept, and the drawn images below ``images``.
        workers: the worker processes; by default at most one per core.
        at_hand: fetches the image at an order's path if it is not on this machine.
    """

    name = "local"
    title = "Local engine"
    docs_url = "docs/local-engine.md"
    note = (
        "Draws on this machine, in seconds, with no key and no model: it continues textures, skies, water, foliage, "
        "walls and soft backgrounds well, and cannot invent what a frame cuts off, such as the rest of a head. "
        "provider_options: seed (a whole number), quality (fast, balanced, best), variants (1-4), "
        f"format (png, jpeg, webp). Every pixel of the image is kept exactly; {_LIMIT}."
    )
    price = "free"
    image_lifetime = "as long as this server keeps its images"
    sources = (SourceForm.OWN_IMAGE,)
    original = Original.EXACT
    holds_orders = True
    operations: ClassVar = {
        SourceKind.IMAGE: Operation(
            arguments={
                Feature.ASPECT_RATIO: Argument(f"any; {_LIMIT}"),
                Feature.SIDES: Argument("any"),
                Feature.PROVIDER_OPTIONS: Argument("seed, quality, variants, format"),
            }
        )
    }
    first_poll = 0.2
    poll_interval = 0.2
    usual_seconds = 4.0
    costs_money = False
    leaves_machine = False
    idempotent = True

    def __init__(self, folder: Path, workers: Workers | None = None, *, at_hand: AtHand = as_it_is) -> None:
        self._jobs = folder / "jobs"
        self._images = folder / "images"
        self._workers = workers or Workers()
        self._at_hand = at_hand
        self._tasks: anyio.abc.TaskGroup | None = None
        self._drawing: dict[str, TaskUpdate] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as self._tasks:
            yield
            # What is still being drawn goes on when the next process asks for it.
            self._tasks.cancel_scope.cancel()
        self._tasks = None

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        _read_options(request.provider_options)

    def normalised_options(self, options: Mapping[str, Any], arguments: ProviderArguments) -> dict[str, Any]:
        return _read_options(options).model_dump(exclude_none=True)

    def format_options(self, file_format: str | None) -> dict[str, Any]:
        return {} if file_format is None else {"format": file_format}

    def notes_for(self, request: OutpaintRequest, frame: Frame | None = None) -> tuple[str, ...]:
        if frame is None or (drawn := fitted(frame)) == frame:
            return ()
        zoom = _largest_zoom(frame, request, lambda one: fitted(one) == one)
        way = f"a zoom of at most {zoom:g} keeps" if zoom else "no zoom keeps"
        return (
            f"The image is scaled down from {frame.width}x{frame.height} to {drawn.width}x{drawn.height} pixels, since "
            f"the local engine draws at most {_MEGAPIXELS}; {way} every original pixel"
            + (" with this aspect_ratio." if request.aspect_ratio and not zoom else "."),
        )

    def check_order(self, order: Order) -> None:
        if order.frame is None:
            return
        options, frame = _read_options(order.options), fitted(order.frame)
        longest = _longest(frame)
        if longest <= LARGEST_SIDE[options.format]:
            return
        formats = " or ".join(name for name, side in LARGEST_SIDE.items() if longest <= side)
        most = LARGEST_SIDE[options.format]
        zoom = _largest_zoom(order.frame, order, lambda one: _longest(fitted(one)) <= most)
        raise InvalidRequestError(
            f"The new image would be {frame.canvas_width}x{frame.canvas_height}; "
            f"a {options.format} file has at most {most:,} pixels on a side.",
            f"Use the format {formats}" + (f", or a zoom of at most {zoom:g}." if zoom else "."),
        )

    def build_job(self, order: Order) -> _Job:
        """What an order asks the workers to draw."""
        if not isinstance(order.source, InputImage) or order.frame is None:
            raise UnexpectedResponseError("The local engine extends images, and was given a task.")
        frame = fitted(order.frame)
        options = _read_options(order.options)
        # The hash is of the image's bytes, so the same image gives the same seed.
        seed = seed_of(bytes.fromhex(order.source.sha256)) if options.seed is None else options.seed
        return _Job(
            source=Path(order.source.path),
            canvas=(frame.canvas_width, frame.canvas_height, frame.x, frame.y),
            size=None if frame == order.frame else (frame.width, frame.height),
            quality=options.quality,
            seeds=tuple(seed + variant for variant in range(options.variants)),
            format=options.format,
            client=order.client,
        )

    async def start(self, order: Order) -> TaskUpdate:
        job = self.build_job(order)
        remote_id = "draw-" + hashlib.sha256(order.key.encode()).hexdigest()[:32]
        with contextlib.ExitStack() as leaving:
            # Before anything is awaited, so that of many orders at once none gets past the client's limit.
            place = self._workers.queue.join(job.client)
            leaving.callback(place.leave)
            await _write(self._jobs / f"{remote_id}.job.json", job.model_dump_json())
            known = await self._known(remote_id)
            if known is not None:
                return known
            leaving.pop_all()
            return self._begin(remote_id, job, place)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        known = await self._known(remote_id)
        if known is not None:
            return known
        job = await self._read(remote_id, "job", _Job)
        if job is None:
            raise UnknownTaskError(f"The local engine knows no task {remote_id[:60]!r}.")
        # It was accepted already, perhaps by a process that is gone.
        return self._begin(remote_id, job, self._workers.queue.join(job.client, bounded=False))

    async def _known(self, remote_id: str) -> TaskUpdate | None:
        """How far a job is that is being drawn or done."""
        if remote_id in self._drawing:
            return self._drawing[remote_id]
        result = await self._read(remote_id, "result", _Result)
        return None if result is None else _finished(remote_id, result)

    def _begin(self, remote_id: str, job: _Job, place: Place) -> TaskUpdate:
        if self._tasks is None:
            raise RuntimeError("LocalProvider draws only inside running()")
        self._drawing[remote_id] = TaskUpdate(Status.QUEUED, remote_id, progress=0)
        self._tasks.start_soon(self._draw, remote_id, job, place)
        return self._drawing[remote_id]

    async def _draw(self, remote_id: str, job: _Job, place: Place) -> None:
        def started() -> None:
            self._drawing[remote_id] = TaskUpdate(Status.RUNNING, remote_id, progress=0)

        def progressed(fraction: float) -> None:
            self._drawing[remote_id] = TaskUpdate(Status.RUNNING, remote_id, progress=round(100 * min(fraction, 1), 1))

        notes: list[str] = []
        try:
            with contextlib.ExitStack() as leaving:
                leaving.callback(place.leave)
                source = await self._at_hand(job.source)
                leaving.pop_all()
            drawn = await self._workers.draw(
                DrawJob(source, Canvas(*job.canvas), job.quality, job.seeds, self._images, job.format, job.size),
                progressed,
                started,
                place=place,
                on_note=notes.append,
            )
            images = tuple((image.path, image.mime_type, image.width, image.height) for image in drawn)
            result = _Result(images=images, notes=tuple(notes), confidence=drawn[0].confidence if drawn else None)
        except DrawError as error:
            result = _Result(failure=Failure(code="provider_unavailable", message=str(error), retryable=True))
        except OutpaintError as error:
            result = _Result(failure=Failure(code=error.code, message=error.message, retryable=error.retryable))
        except OSError as error:
            message = f"The new image cannot be stored: {error.strerror}."
            result = _Result(failure=Failure(code="provider_unavailable", message=message, retryable=True))
        try:
            await _write(self._jobs / f"{remote_id}.result.json", result.model_dump_json())
        except OSError as error:
            # Not on disk, so it will be drawn again after a restart; this process still knows.
            failure = Failure(
                code="provider_unavailable",
                message=f"The result cannot be stored: {error.strerror}.",
                retryable=True,
            )
            self._drawing[remote_id] = _finished(remote_id, _Result(failure=result.failure or failure))
            return
        del self._drawing[remote_id]

    async def tidy(self) -> None:
        await anyio.to_thread.run_sync(_tidy, self._jobs)

    async def _read(self, remote_id: str, what: str, model: type[ModelT]) -> ModelT | None:
        if not (remote_id.startswith("draw-") and remote_id.removeprefix("draw-").isalnum()):
            return None
        try:
            return model.model_validate_json(await anyio.Path(self._jobs / f"{remote_id}.{what}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def _read_options(options: Mapping[str, Any]) -> LocalOptions:
    try:
        return LocalOptions.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequestError(
            f"provider_options.{'.'.join(map(str, problem['loc']))} does not fit the local engine.",
            "It takes seed (a whole number), quality (fast, balanced, best), variants (1-4), format (png, jpeg, webp).",
        ) from None


def _largest_zoom(frame: Frame, asked: ProviderArguments, fits: Callable[[Frame], bool]) -> float | None:
    """The largest zoom, in hundredths, with which the canvas fits and is larger than the image; None if none does."""
    for hundredths in range(200, 99, -1):
        zoom = hundredths / 100
        try:
            smaller = Frame.around(
                frame.width, frame.height, zoom=zoom, aspect_ratio=asked.aspect_ratio, sides=asked.sides
            )
        except InvalidRequestError:
            # The ratio needs a side that is not named.
            continue
        if smaller.grows and fits(smaller):
            return zoom
    return None


def _longest(frame: Frame) -> int:
    return max(frame.canvas_width, frame.canvas_height)


def _finished(remote_id: str, result: _Result) -> TaskUpdate:
    if result.failure is not None:
        return TaskUpdate(Status.FAILED, remote_id, failure=result.failure)
    return TaskUpdate(
        Status.SUCCEEDED,
        remote_id,
        progress=100,
        # By their contents' hashes, which are the files' names: another machine may have to find them.
        images=tuple(
            ResultImage(url_of(path.name), mime, width, height) for path, mime, width, height in result.images
        ),
        cost=Cost(amount=0, unit="USD", usd=0),
        is_grid=len(result.images) > 1,
        notes=result.notes,
        confidence=result.confidence,
    )


async def _write(path: Path, text: str) -> None:
    """Write whole or not at all."""

    def write() -> None:
        make_folder(path.parent)
        part = path.with_suffix(".part")
        with open(part, "w", encoding="utf-8", opener=open_private) as file:
            file.write(text)
        part.replace(path)

    await anyio.to_thread.run_sync(write)


def _tidy(jobs: Path) -> None:
    """Delete the files of the jobs of which neither the image nor what was drawn is left."""
    for file in jobs.glob("*.job.json"):
        result = file.with_name(file.name.replace(".job.", ".result."))
        try:
            images = [_Job.model_validate_json(file.read_bytes()).source]
            if result.exists():
                images += [path for path, *_ in _Result.model_validate_json(result.read_bytes()).images]
        except (OSError, ValidationError):
            # Nobody can use it.
            images = []
        if not any(path.exists() for path in images):
            result.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
