"""The commands `outpaint`, `task` and `tasks`, and how every command writes to stdout and stderr."""

import argparse
import contextlib
import errno
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import anyio

from outpaint_mcp.bootstrap import configured, open_service
from outpaint_mcp.cli.options import add_model_options, given_arguments
from outpaint_mcp.cli.output import FORMATS, default_output, format_of, write_image
from outpaint_mcp.domain import values
from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError, InvalidRequestError, OutpaintError
from outpaint_mcp.domain.front import Front
from outpaint_mcp.domain.references import TaskReference
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.images.sources import scheme_of

if TYPE_CHECKING:
    from outpaint_mcp.settings import Settings
    from outpaint_mcp.tasks.service import OnProgress, Service


DONE, FAILED, REFUSED = 0, 1, 2
"""Exit codes: done, the task failed, refused."""
WAIT_SECONDS = 20.0
"""How long a single call waits, so that progress is shown in between."""
PLACING_SECONDS = 120.0
"""How long a command waits for a slow image host or vendor: here nobody calls again."""
_FLAGS = {"image": "image", "task_id": "--task", "provider_options": "--option"}
"""The arguments of the tool that have another name on the command line."""
_LEFT_OUT = {"webhook_url", "webhook_secret", "webhook_events", "wait_seconds"}
"""Those that it does not have: it waits for the result itself."""


class StdoutError(Exception):
    """Stdout cannot be written: its reader has gone, its disk is full, or it is closed. Raised once only."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"[configuration] stdout cannot be written: {cause.strerror}. Send it elsewhere.")
        self.reader_gone = isinstance(cause, BrokenPipeError)


def add_outpaint_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `outpaint` the arguments of the tool of that name."""
    from outpaint_mcp.server.arguments import OutpaintArguments

    add_model_options(parser, OutpaintArguments, flags=_FLAGS, left_out=_LEFT_OUT)


def outpaint(options: argparse.Namespace) -> int:
    """Order an outpaint and write the result; returns the exit code."""
    from outpaint_mcp.server.arguments import OutpaintArguments, checked

    check_working_folder()
    settings = configured()
    given = given_arguments(options, OutpaintArguments)
    image: str | None = given.get("image")
    if image is not None:
        given["image"] = _image_argument(image)
    if "provider_options" in given:
        given["provider_options"] = dict(_provider_option(text) for text in given["provider_options"])
    request = checked(OutpaintArguments, given).request()
    file_format = format_of(options.output)
    asked = values.file_format(request.provider_options.get("format"))
    if file_format is not None and asked in FORMATS.values() and asked != file_format:
        raise InvalidRequestError(
            f"The name {options.output.name} asks for another format than --option format.", "Give the same in both."
        )
    request = replace(request, file_format=file_format)

    async def use(service: "Service") -> int:
        with _progress() as on_progress:
            # Without waiting for the end: the user learns the id when this returns.
            task = await service.outpaint(request, at_least=PLACING_SECONDS, on_progress=on_progress)
        if not task.status.ends_a_wait:
            file = "FILE" if options.output is None else shlex.quote(str(options.output))
            again = f"outpaint-mcp task {task.id} --wait -o {file}"
            tell_line(f"Task {task.id}: if this is interrupted, go on with: {again}")
            with _progress() as on_progress:
                final = await _until_final(service, task, on_progress)
            # Notes on the call, such as that the order is an older one, are not stored with the task.
            notes = tuple(note for note in task.notes if note not in final.notes)
            task = final.model_copy(update={"notes": (*final.notes, *notes)})
        return await _finish(service, task, options.output, default_output(image, task), as_json=options.json)

    return _with_service(settings, use)


def show_task(options: argparse.Namespace) -> int:
    """Show a task, and write its images if asked to; returns the exit code."""
    from outpaint_mcp.server.arguments import GetTaskArguments, checked

    check_working_folder()
    settings = configured()
    task_id, provider = checked(GetTaskArguments, {"task_id": options.id, "provider": options.provider}).named()

    async def use(service: "Service") -> int:
        task = await service.get_task(task_id, provider=provider, at_least=PLACING_SECONDS)
        if options.wait:
            with _progress() as on_progress:
                task = await _until_final(service, task, on_progress)
        return await _finish(service, task, options.output, None, as_json=options.json)

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
    """Run `use` with a service whose tasks are polled; it may read any file, since the user is at the terminal."""

    async def run() -> int:
        refusal: OutpaintError | StdoutError | None = None
        code = REFUSED
        async with open_service(settings, front=Front.TERMINAL) as service:
            try:
                code = await use(service)
            except (OutpaintError, StdoutError) as error:
                # Raised outside of the task groups, which would wrap it.
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
    """Write a line to stdout, with escapes for what its encoding cannot represent.

    Raises:
        StdoutError: it cannot be written.
    """
    try:
        # Python has no stdout where the process was started with it closed.
        stdout: TextIO | None = sys.stdout
        if stdout is None:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flush(stdout, text + "\n")
    except OSError as error:
        raise StdoutError(error) from None


def tell_line(text: str) -> None:
    """Write a line to stderr, if it can be written."""
    stderr: TextIO | None = sys.stderr
    if stderr is not None:
        with contextlib.suppress(OSError):
            flush(stderr, text + "\n")


def flush(stream: TextIO, text: str = "") -> None:
    """Write `text`, and everything that is still buffered.

    Raises:
        OSError: it cannot be written. The stream is then redirected to nowhere, or Python would fail again at its exit.
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
    """Make sure that there is a working folder.

    Raises:
        ConfigurationError: the working folder was deleted.
    """
    try:
        Path.cwd()
    except OSError:
        raise ConfigurationError("The working folder is not there any more.", "Change to another one.") from None


async def _finish(service: "Service", task: Task, given: Path | None, default: Path | None, *, as_json: bool) -> int:
    """Print the task, and write its images: what is paid for is printed before a file can fail."""
    from outpaint_mcp.server.text import task_text

    unprinted: StdoutError | None = None
    try:
        print_line(task.model_dump_json(indent=2) if as_json else task_text(task))
    except StdoutError as error:
        unprinted = error
    code = DONE if not task.status.ends_a_wait or task.status is Status.SUCCEEDED else FAILED
    target = given or default
    if task.status is Status.SUCCEEDED and target is not None:
        for image in task.images:
            try:
                data, mime_type = await service.image(task.id, image.index)
                path = write_image(
                    target, given=given is not None, task=task, index=image.index, data=data, mime_type=mime_type
                )
            except (OutpaintError, OSError) as error:
                code = FAILED
                tell_line(str(_not_written(error, target, task.id)))
                continue
            if as_json or unprinted is not None:
                tell_line(f"Written: {path}")
            else:
                print_line(f"Written: {path}")
    if unprinted is not None:
        raise unprinted
    return code


def _not_written(error: OutpaintError | OSError, target: Path, task_id: str) -> OutpaintError:
    """Why an image is not in a file, and how it can be written elsewhere."""
    elsewhere = f"outpaint-mcp task {task_id} -o FILE writes it elsewhere."
    if isinstance(error, OSError):
        return ConfigurationError(f"The image cannot be written to {target}: {error.strerror}.", elsewhere)
    return error


def _provider_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--option {name!r} has no value.", "Write --option NAME=VALUE.")
    if not _is_utf8(text):
        raise InvalidRequestError("An --option is not UTF-8.", "Write its value in UTF-8.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _image_argument(image: str) -> str:
    """The path of a file, relative to the working folder, made absolute; everything else as it is."""
    if not image or scheme_of(image) is not None or TaskReference.of(image) is not None:
        return image
    if not _is_utf8(image):
        raise InvalidImageError("The image's path is not UTF-8.", "Rename the file.")
    path = Path(image)
    # A ~user that does not exist is an ordinary name.
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return str(path.absolute()) if os.path.lexists(path) else image


def _is_utf8(text: str) -> bool:
    """Whether an argument was UTF-8: other bytes arrive as lone surrogates (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _progress() -> Any:
    """Shows progress on stderr: a bar on a terminal where rich is installed, else a line whenever it changes."""
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
