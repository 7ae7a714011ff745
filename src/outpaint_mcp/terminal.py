"""Extending pictures from a terminal: orders, waits, shows how far it is, and writes the images out."""

import argparse
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from outpaint_mcp.building import configured, running_service
from outpaint_mcp.errors import ConfigurationError, OutpaintError
from outpaint_mcp.task import OutpaintRequest, Status, Task

if TYPE_CHECKING:
    from outpaint_mcp.service import OnProgress, Service
    from outpaint_mcp.settings import Settings

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit codes: done, the task failed, refused."""
WAIT_SECONDS = 20.0
"""How long the command line waits at a time, so that it can show what it waits for."""


def outpaint(options: argparse.Namespace) -> int:
    """Order an outpaint and write the result; returns the exit code."""
    settings = configured()
    request = OutpaintRequest(
        task_id=options.task,
        image=_image_argument(options.image),
        provider=options.provider,
        image_index=options.image_index,
        zoom=options.zoom,
        aspect_ratio=options.aspect_ratio,
        prompt=options.prompt,
        speed=options.speed,
        provider_options=dict(_option(text) for text in options.option),
        repeat=options.repeat,
    )

    async def use(service: "Service") -> int:
        with _progress() as on_progress:
            task = await service.outpaint(request, wait_seconds=WAIT_SECONDS, on_progress=on_progress)
            task = await _until_final(service, task, on_progress)
        target = options.output or _default_output(options.image)
        return await _finish(service, task, target, as_json=options.json)

    return _with_service(settings, use)


def show_task(options: argparse.Namespace) -> int:
    """Show a task, written out if wanted; returns the exit code."""
    settings = configured()

    async def use(service: "Service") -> int:
        task = await service.get_task(options.id, provider=options.provider)
        if options.wait:
            with _progress() as on_progress:
                task = await _until_final(service, task, on_progress)
        return await _finish(service, task, options.output, as_json=options.json)

    return _with_service(settings, use)


def list_tasks(options: argparse.Namespace) -> int:
    """List the newest tasks; returns the exit code."""
    settings = configured()

    async def use(service: "Service") -> int:
        recent = await service.recent(limit=options.limit)
        if options.json:
            print_line(json.dumps([task.model_dump(mode="json") for task in recent], indent=2))
            return DONE
        for task in recent:
            created = task.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
            print_line(f"{task.id}  {created}  {task.provider:9} {task.status.value:9} {len(task.images)} images")
        return DONE

    return _with_service(settings, use)


def _with_service(settings: "Settings", use: "Callable[[Service], Awaitable[int]]") -> int:
    """Run `use` over a service whose tasks are followed; any file may be read, since its owner sits at the terminal."""

    async def run() -> int:
        refusal: OutpaintError | None = None
        code = REFUSED
        async with running_service(settings, at_terminal=True) as service:
            try:
                code = await use(service)
            except OutpaintError as error:
                # Carried out of the task groups by hand: they would wrap it.
                refusal = error
        if refusal is not None:
            raise refusal
        return code

    return anyio.run(run)


async def _until_final(service: "Service", task: Task, on_progress: "OnProgress") -> Task:
    while not task.status.ends_a_wait:
        task = await service.get_task(task.id, wait_seconds=WAIT_SECONDS, on_progress=on_progress)
    return task


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _finish(service: "Service", task: Task, target: Path | None, *, as_json: bool) -> int:
    from outpaint_mcp.wording import task_text

    written = []
    if task.status is Status.SUCCEEDED and target is not None:
        for image in task.images:
            data, mime_type = await service.image(task.id, image.index)
            path = _numbered(target, image.index, len(task.images), mime_type)
            try:
                path.write_bytes(data)
            except OSError as error:
                advice = f"It is kept: outpaint-mcp task {task.id} -o FILE"
                raise ConfigurationError(f"{path} cannot be written: {error.strerror}.", advice) from None
            written.append(path)
    if as_json:
        print_line(task.model_dump_json(indent=2))
    else:
        print_line(task_text(task))
        for path in written:
            print_line(f"Written: {path}")
    if not task.status.ends_a_wait or task.status is Status.SUCCEEDED:
        return DONE
    return FAILED


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--option {name!r} has no value.", "Write --option NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _image_argument(image: str | None) -> str | None:
    """A path is meant from the working folder, and a shell has expanded what it could."""
    if image is None or image.lower().startswith(("http://", "https://", "data:", "file:")):
        return image
    return str(Path(image).expanduser().absolute())


def _default_output(image: str | None) -> Path:
    """A new name in the working folder, after the picture's."""
    stem = "outpainted"
    if image is not None and not image.lower().startswith("data:"):
        stem = (Path(image.partition("?")[0]).stem or "picture") + "-outpainted"
    path, number = Path(f"{stem}.png"), 1
    while list(path.parent.glob(f"{path.stem}.*")):
        number += 1
        path = Path(f"{stem}-{number}.png")
    return path


def _numbered(target: Path, index: int, count: int, mime_type: str) -> Path:
    """Where an image goes: the suffix says what it is, and several are numbered."""
    known = {"image/png": [".png"], "image/jpeg": [".jpg", ".jpeg"], "image/webp": [".webp"], "image/gif": [".gif"]}
    fitting = known.get(mime_type, [target.suffix])
    suffix = target.suffix if target.suffix.lower() in fitting else fitting[0]
    return target.with_name(f"{target.stem}-{index}{suffix}" if count > 1 else f"{target.stem}{suffix}")


@contextlib.contextmanager
def _progress() -> Any:
    """How far it is: a bar on a terminal where rich is installed, else a line now and then. On stderr."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            pass
        else:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                row = bar.add_task("ordering", total=100)

                async def show(percent: float, message: str) -> None:
                    bar.update(row, completed=percent, description=message)

                yield show
            return
    last = ""

    async def tell(percent: float, message: str) -> None:
        nonlocal last
        line = f"{message} {percent:.0f} %"
        if line != last:
            last = line
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    yield tell
