"""`outpaint-mcp doctor`: checks this installation and advises what to do.

Vendors are contacted only if it is told to; the operator's own engines, on this machine or its network, always.

It is given what was read from the environment and reads no setting itself. It changes nothing, except that a store of
an older version is migrated, as by any other command.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from outpaint_mcp.cli.bucket import check_bucket
from outpaint_mcp.cli.database import check_database
from outpaint_mcp.cli.findings import Finding, Level, exit_code, problem, warning
from outpaint_mcp.cli.online_checks import check_accounts, check_engines
from outpaint_mcp.cli.settings_checks import (
    check_file_roots,
    check_providers,
    check_settings,
    check_tokens_file,
    check_variables,
    known_variables,
)
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.workers import DrawJob, Workers
from outpaint_mcp.settings import Settings, VendorSettings, reveal
from outpaint_mcp.storage.data_folder import STORE, is_ours_alone, open_to_others, ours_in
from outpaint_mcp.storage.opening import open_store

T = TypeVar("T")

LOW_DISK_BYTES: Final = 10**9
FULL_DISK_BYTES: Final = 50 * 10**6
DRAW_TIMEOUT: Final = 60.0
"""Seconds."""
_STDOUT_COMMAND: Final = (
    sys.executable,
    "-P",
    "-c",
    "import outpaint_mcp.cli.main, outpaint_mcp.server.app, outpaint_mcp.providers as p; p.provider_classes()",
)


@dataclass(frozen=True, slots=True)
class Installation:
    """What is checked.

    Args:
        settings: the settings, or why they cannot be read.
        vendors: each provider's own settings, or why they cannot be read.
        classes: every installed provider by name.
        variables: the names of the environment variables.
        environment: for the child processes that are started to try things; without keys.
        requirements: the package's dependencies, as in its metadata; None if it is not installed as a package.
        version_of: the installed version of a package.
        stdout_command: imports everything that a server imports; what it prints would break the protocol.
        now: seconds since the epoch.
        online: whether the vendors are asked about their keys.
        plain_http: whether a bucket may be reached without TLS.
    """

    settings: Settings | ConfigurationError
    vendors: Mapping[str, VendorSettings | ConfigurationError]
    classes: Mapping[str, type[Provider]]
    variables: Collection[str]
    environment: Mapping[str, str]
    requirements: Sequence[str] | None = field(default_factory=lambda: _requirements())
    version_of: Callable[[str], str] = metadata.version
    stdout_command: Sequence[str] = _STDOUT_COMMAND
    now: float = field(default_factory=time.time)
    online: bool = False
    plain_http: bool = False


def attempt(read: Callable[[], T]) -> T | ConfigurationError:
    """What `read` returns, or the error that it raises."""
    try:
        return read()
    except ConfigurationError as error:
        return error


async def examine(installation: Installation) -> list[Finding]:
    """The results of all checks, in the order in which problems are best fixed."""
    settings = installation.settings
    found = [*check_packages(installation.requirements, installation.version_of)]
    found += check_settings(installation.settings, installation.vendors)
    found += check_variables(installation.variables, known_variables(installation.classes))
    printed = await anyio.to_thread.run_sync(_printed, installation.stdout_command, installation.environment)
    found += check_stdout(printed)
    if not isinstance(settings, ConfigurationError):
        found += check_folder(settings.data_dir)
        found += await check_store(settings, installation.now)
        found += await check_bucket(settings.images_url, plain_http=installation.plain_http)
        found += check_file_roots(settings.file_roots)
        if settings.tokens_file is not None:
            found += check_tokens_file(settings.tokens_file)
    found += check_providers(settings, installation.vendors, installation.classes, installation.variables)
    found += await check_engines(installation.vendors, installation.classes)
    if installation.online:
        found += await check_accounts(installation.vendors, installation.classes)
    found += await check_local_engine(installation.environment)
    if not isinstance(settings, ConfigurationError) and settings.inpaint_model is not None:
        found += await check_inpaint_model(settings.inpaint_model, installation.environment)
    return found


# The installation


def check_packages(requirements: Sequence[str] | None, version_of: Callable[[str], str]) -> list[Finding]:
    """Python, and whether each installed package lies within the versions that were tested."""
    release = ".".join(map(str, sys.version_info[:3]))
    found = [Finding("python", Level.OK, f"Python {release} at {sys.executable}")]
    if requirements is None:
        advice = "pip install outpaint-mcp"
        return [*found, warning("packages", "outpaint-mcp is not installed as a package.", advice)]
    installed = []
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or "extra ==" in requirement:
            continue
        try:
            version = version_of(name[0])
        except metadata.PackageNotFoundError:
            found.append(problem("packages", f"{name[0]} is not installed.", f"pip install '{requirement}'"))
            continue
        bounds = re.findall(r"(>=|<)\s*([0-9][0-9.]*)", requirement)
        if all(_meets(version, operator, bound) for operator, bound in bounds):
            installed.append(f"{name[0]} {version}")
        else:
            # Another program's requirements may have changed what the installer chose.
            advice = f"pip install '{requirement}'"
            found.append(problem("packages", f"{name[0]} {version} is not supported.", advice))
    return [*found, Finding("packages", Level.OK, ", ".join(installed))]


def _meets(version: str, operator: str, bound: str) -> bool:
    # Our own bounds are >= and < only, on plain numbers; a pre-release counts as its release.
    has, wants = (tuple(int(part) for part in re.findall(r"\d+", text)[:3]) for text in (version, bound))
    has, wants = ((*numbers, 0, 0, 0)[:3] for numbers in (has, wants))
    return has >= wants if operator == ">=" else has < wants


def _requirements() -> list[str] | None:
    try:
        return metadata.requires("outpaint-mcp") or []
    except metadata.PackageNotFoundError:
        return None


def check_stdout(printed: str | None) -> list[Finding]:
    """Whether only the protocol goes to standard output: `printed` is what a start prints, None if it fails."""
    if printed is None:
        return [problem("stdout", "The server cannot be imported in a separate process.", "Install it again.")]
    if printed:
        return [
            problem(
                "stdout",
                f"Something prints to standard output when the server starts ({len(printed)} characters), which "
                "breaks the protocol over stdio.",
                "Look for a print in a plug-in, a sitecustomize.py or a .pth file of this Python.",
            )
        ]
    return [Finding("stdout", Level.OK, "Only the protocol goes to standard output.")]


def _printed(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


# The data


def check_folder(
    folder: Path, free_of: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> list[Finding]:
    """Whether the data folder can be used, or created. `free_of` gives the bytes that are free on a path's disk."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    advice = "Set OUTPAINT_DATA_DIR to a folder that this user can write."
    if not existing.is_dir():
        return [problem("data folder", f"{existing} is not a folder.", advice)]
    try:
        if existing == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(existing, os.W_OK | os.X_OK):
            return [problem("data folder", f"{folder} cannot be created: {existing} is not writable.", advice)]
        free = free_of(existing)
    except OSError as error:
        return [problem("data folder", f"{folder} cannot be written: {error.strerror}.", advice)]
    state = "is writable" if existing == folder else "will be created with the first order"
    room = f"{free / 10**9:.1f} GB are free"
    if free < LOW_DISK_BYTES:
        level = Level.PROBLEM if free < FULL_DISK_BYTES else Level.WARNING
        return [Finding("data folder", level, f"{folder} {state}, but only {room}.", "Free some space.")]
    if existing == folder and (found := _who_else(folder)):
        return found
    return [Finding("data folder", Level.OK, f"{folder} {state}; {room}.")]


def _who_else(folder: Path) -> list[Finding]:
    """Warnings of what is stored and open to others."""
    try:
        wide, stored, alone = open_to_others(folder), ours_in(folder), is_ours_alone(folder)
    except OSError as error:
        return [warning("data folder", f"{folder} cannot be listed: {error.strerror}.", "Check its permissions.")]
    found = []
    if folder in wide and not alone:
        wide.remove(folder)
        advice = f"Set OUTPAINT_DATA_DIR to a folder of its own, such as {folder / 'outpaint'}"
        if stored:
            advice += f", and move what is stored into it: {', '.join(path.name for path in stored)}"
        message = f"Other users of this machine can enter {folder}, which is not for outpaint-mcp alone."
        found.append(warning("data folder", message, advice + "."))
    if wide:
        paths = [str(path) for path in wide]
        message = f"Other users of this machine can use {', '.join(paths)}."
        found.append(warning("data folder", message, f"chmod go= {shlex.join(paths)}"))
    return found


async def check_store(settings: Settings, now: float) -> list[Finding]:
    """Whether the store opens, and how many of its tasks are unfinished. A file that does not exist is not created."""
    path, url = settings.data_dir / STORE, reveal(settings.database_url)
    if url is None and not await anyio.Path(path).exists():
        return [Finding("store", Level.OK, "None yet; it is created with the first order.")]
    try:
        store, _ = open_store(path, f"doctor-{os.getpid()}", database_url=url, seal_key=reveal(settings.seal_key))
        found = [] if url is None else await check_database(url, settings.workers)
        if exit_code(found):
            return found
        counts = await store.counts(now)
        await store.aclose()
    except OutpaintError as error:
        return [problem("store", error.message, error.advice)]
    by_status: dict[str, int] = {}
    for (_, status), count in counts.tasks.items():
        by_status[status] = by_status.get(status, 0) + count
    running = by_status.get("queued", 0) + by_status.get("running", 0)
    unknown = by_status.get("unknown", 0)
    total = f"tasks: {sum(by_status.values())}, open: {running}"
    if unknown:
        message = f"It opens; {total}, unknown: {unknown} (the vendor may or may not have taken the order)."
        advice = "See outpaint-mcp tasks, and the vendor's site, before ordering the same again."
        return [*found, warning("store", message, advice)]
    return [*found, Finding("store", Level.OK, f"It opens; {total}.")]


async def check_inpaint_model(model: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Which model the local engine paints with, and whether it can: it extends a tiny image."""
    try:
        with model.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            megabytes = file.tell() / 10**6
    except OSError as error:
        message = f"OUTPAINT_INPAINT_MODEL names {model}, which cannot be read ({error.strerror})."
        return [problem("model", message, "Give the path of an ONNX file, or unset it.")]
    said = f"{model}, {megabytes:.1f} MB, sha256 {digest}"
    (tried,) = await check_local_engine(environment, model)
    if tried.level is Level.OK:
        return [Finding("model", Level.OK, f"The local engine paints with {said}.")]
    advice = "Give another model, or unset OUTPAINT_INPAINT_MODEL."
    return [problem("model", f"{tried.message} The model is {said}.", advice)]


async def check_local_engine(environment: Mapping[str, str], inpaint_model: Path | None = None) -> list[Finding]:
    """Whether the local engine really draws: it extends a tiny image in a worker process."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="outpaint-doctor-") as name:
        folder = Path(name)
        try:
            from PIL import Image  # that it cannot be imported is a finding

            Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(folder / "tiny.png")
            job = DrawJob(folder / "tiny.png", Canvas(36, 24, 6, 4), "fast", (1,), folder / "images")
            workers = Workers(1, environment=environment, inpaint_model=inpaint_model)
            with anyio.fail_after(DRAW_TIMEOUT):
                (drawn,) = await workers.draw(job, lambda _: None)
            with Image.open(drawn.path) as image:
                size = image.size
        except (DrawError, OutpaintError) as error:
            return [problem("local", f"The local engine does not work: {error.message}", "Install the package again.")]
        except TimeoutError:
            message = f"The local engine has drawn nothing within {DRAW_TIMEOUT:.0f} seconds."
            return [problem("local", message, "Check whether this machine is busy.")]
        except (ImportError, OSError) as error:
            message = f"The local engine cannot be tried: {type(error).__name__}."
            return [problem("local", message, "Install Pillow again, and check whether the temporary folder is full.")]
    if size != (36, 24):
        return [problem("local", "The local engine drew an image of the wrong size.", "Install the package again.")]
    seconds = time.monotonic() - started
    return [Finding("local", Level.OK, f"The local engine works ({seconds:.1f} s for a tiny image).")]
