"""Extending pictures from a terminal: orders, waits, shows how far it is, and writes the images out."""

import argparse
import contextlib
import errno
import glob
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import anyio

from outpaint_mcp.bootstrap import configured, running_service
from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError, InvalidRequestError, OutpaintError
from outpaint_mcp.domain.task import Status, Task

if TYPE_CHECKING:
    from outpaint_mcp.server.arguments import ToolArguments
    from outpaint_mcp.settings import Settings
    from outpaint_mcp.tasks.service import OnProgress, Service

Arguments = TypeVar("Arguments", bound="ToolArguments")

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit codes: done, the task failed, refused."""
WAIT_SECONDS = 20.0
"""How long the command line waits at a time, so that it can show what it waits for."""
MAX_STEM = 100
"""Characters of a picture's name that go into the name of what is made of it; a URL's may be longer than a file's."""


class StdoutError(Exception):
    """Stdout takes nothing: its reader has gone, its disk is full, or it is closed. Raised once; later text is lost."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"stdout cannot be written: {cause.strerror}")
        self.reader_gone = isinstance(cause, BrokenPipeError)


def outpaint(options: argparse.Namespace) -> int:
    """Order an outpaint and write the result; returns the exit code."""
    from outpaint_mcp.server.arguments import OutpaintArguments

    check_working_folder()
    settings = configured()
    given = {
        "task_id": options.task,
        "image": _image_argument(options.image),
        "provider": options.provider,
        "image_index": options.image_index,
        "zoom": options.zoom,
        "aspect_ratio": options.aspect_ratio,
        "prompt": options.prompt,
        "speed": options.speed,
        "provider_options": dict(_option(text) for text in options.option),
        "repeat": options.repeat,
    }
    request = _checked(OutpaintArguments, given).request()

    async def use(service: "Service") -> int:
        with _progress() as on_progress:
            # Without waiting: its id is known to nobody before this returns.
            task = await service.outpaint(request, on_progress=on_progress)
        if not task.status.ends_a_wait:
            file = "FILE" if options.output is None else shlex.quote(str(options.output))
            again = f"outpaint-mcp task {task.id} --wait -o {file}"
            tell_line(f"Task {task.id}: if this is interrupted, go on with: {again}")
            with _progress() as on_progress:
                final = await _until_final(service, task, on_progress)
            # What was said about the order, such as that it is an older one, is said of the call and not kept.
            said = tuple(note for note in task.notes if note not in final.notes)
            task = final.model_copy(update={"notes": (*final.notes, *said)})
        target = options.output or _default_output(options.image)
        return await _finish(service, task, target, as_json=options.json)

    return _with_service(settings, use)


def show_task(options: argparse.Namespace) -> int:
    """Show a task, written out if wanted; returns the exit code."""
    from outpaint_mcp.server.arguments import GetTaskArguments

    check_working_folder()
    settings = configured()
    task_id, provider = _checked(GetTaskArguments, {"task_id": options.id, "provider": options.provider}).named()

    async def use(service: "Service") -> int:
        task = await service.get_task(task_id, provider=provider)
        if options.wait:
            with _progress() as on_progress:
                task = await _until_final(service, task, on_progress)
        return await _finish(service, task, options.output, as_json=options.json)

    return _with_service(settings, use)


def list_tasks(options: argparse.Namespace) -> int:
    """List the newest tasks; returns the exit code."""
    check_working_folder()
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
        refusal: OutpaintError | StdoutError | None = None
        code = REFUSED
        async with running_service(settings, at_terminal=True) as service:
            try:
                code = await use(service)
            except (OutpaintError, StdoutError) as error:
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
    """Write a line to stdout, what its encoding has no character for in escapes.

    Raises:
        StdoutError: it cannot be written.
    """
    try:
        # Python has no stdout at all where the process was started with it closed.
        stdout: TextIO | None = sys.stdout
        if stdout is None:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flush(stdout, text + "\n")
    except OSError as error:
        raise StdoutError(error) from None


def tell_line(text: str) -> None:
    """Write a line to stderr, if anybody is there to read it."""
    stderr: TextIO | None = sys.stderr
    if stderr is not None:
        with contextlib.suppress(OSError):
            flush(stderr, text + "\n")


def flush(stream: TextIO, text: str = "") -> None:
    """Write `text`, and all that was written before.

    Raises:
        OSError: it cannot be written. The stream then leads nowhere: at its end Python would try once more, and fail.
    """
    try:
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise


def check_working_folder() -> None:
    """Refuse to work where there is no folder any more.

    Raises:
        ConfigurationError: the working folder was deleted.
    """
    try:
        Path.cwd()
    except OSError:
        raise ConfigurationError("The working folder is not there any more.", "Change to another one.") from None


def _checked(model: "type[Arguments]", given: dict[str, Any]) -> "Arguments":
    """The arguments as the tool of the same name checks them; the refusals are worded as its own are."""
    from outpaint_mcp.server.arguments import CheckedArguments

    checked: Arguments | InvalidRequestError = CheckedArguments(arg_model=model).validate_arguments(given)["call"]
    if isinstance(checked, InvalidRequestError):
        raise checked
    return checked


async def _finish(service: "Service", task: Task, target: Path | None, *, as_json: bool) -> int:
    """Print the task, and write its images: what is paid for is told before anything can go wrong with a file."""
    from outpaint_mcp.server.text import task_text

    unprinted: StdoutError | None = None
    try:
        print_line(task.model_dump_json(indent=2) if as_json else task_text(task))
    except StdoutError as error:
        unprinted = error
    code = DONE if not task.status.ends_a_wait or task.status is Status.SUCCEEDED else FAILED
    if task.status is Status.SUCCEEDED and target is not None:
        for image in task.images:
            try:
                data, mime_type = await service.image(task.id, image.index)
                path = _path_for(target, task, image.index, mime_type)
                path.write_bytes(data)
            except (OutpaintError, OSError) as error:
                code = FAILED
                tell_line(f"not written: {error}; try: outpaint-mcp task {task.id} -o FILE")
                continue
            if not as_json and unprinted is None:
                print_line(f"Written: {path}")
    if unprinted is not None:
        raise unprinted
    return code


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--option {name!r} has no value.", "Write --option NAME=VALUE.")
    if not _is_utf8(text):
        raise InvalidRequestError("An --option is not UTF-8.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _image_argument(image: str | None) -> str | None:
    """A path is meant from the working folder, and a shell has expanded what it could."""
    if not image or image.lower().startswith(("http://", "https://", "data:", "file:")):
        return image
    path = Path(image)
    # A ~user that there is not is a name like another.
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    found = str(path.absolute())
    if not _is_utf8(found):
        raise InvalidImageError("The picture's path is not UTF-8.", "Rename it.")
    return found


def _is_utf8(text: str) -> bool:
    """Whether an argument was UTF-8: Python hands the bytes of others over as halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _default_output(image: str | None) -> Path:
    """A new name in the working folder, after the picture's."""
    stem = "outpainted"
    if image is not None and not image.lower().startswith("data:"):
        stem = (Path(image.partition("?")[0]).stem[:MAX_STEM] or "picture") + "-outpainted"
    path, number = Path(f"{stem}.png"), 1
    while list(path.parent.glob(f"{glob.escape(path.stem)}.*")):
        number += 1
        path = Path(f"{stem}-{number}.png")
    return path


def _path_for(target: Path, task: Task, index: int, mime_type: str) -> Path:
    """Where an image goes: the suffix says what it is; several are numbered, and those in a folder named too."""
    known = {"image/png": [".png"], "image/jpeg": [".jpg", ".jpeg"], "image/webp": [".webp"], "image/gif": [".gif"]}
    fitting = known.get(mime_type, [target.suffix])
    if os.path.isdir(target):
        return target / f"{task.id}-{index}{fitting[0]}"
    suffix = target.suffix if target.suffix.lower() in fitting else fitting[0]
    return target.with_name(f"{target.stem}-{index}{suffix}" if len(task.images) > 1 else f"{target.stem}{suffix}")


@contextlib.contextmanager
def _progress() -> Any:
    """How far it is: a bar on a terminal where rich is installed, else a line now and then. On stderr."""
    if sys.stderr is not None and sys.stderr.isatty():
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
            tell_line(line)

    yield tell
