"""Examines an installation and says what its owner can do about what is found. Asks nobody but this machine.

It is given what was read from the environment and reads no setting itself; a key's value is looked at and never shown.
It changes nothing, but that a store of an older version is brought up to date, as by any other command.
"""

import difflib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError

if TYPE_CHECKING:
    from outpaint_mcp.providers.base import Provider
    from outpaint_mcp.settings import Settings, VendorSettings

T = TypeVar("T")

NOT_ASKED: Final = "No vendor was asked: whether a key is valid shows when it is first used."
SMALL_DISK: Final = 10**9
FULL_DISK: Final = 50 * 10**6
DRAW_SECONDS: Final = 60.0
SHORTEST_KEY: Final = 12
"""Characters. No vendor publishes how long its keys are; all that were seen are much longer."""
_STDOUT_COMMAND: Final = (
    sys.executable,
    "-P",
    "-c",
    "import outpaint_mcp.cli.main, outpaint_mcp.server.app, outpaint_mcp.providers as p; p.provider_classes()",
)


class Level(StrEnum):
    """``ok``; ``warning``: it works, but perhaps not as meant; ``problem``: something does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one place: a sentence, and where it is not `ok` another on what to do."""

    name: str
    level: Level
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Args:
        settings: the settings, or why they cannot be read.
        vendors: each provider's own settings, or why they cannot be read.
        classes: every installed provider by name.
        variables: the names of the environment's variables.
        environment: what the processes that are started to try things get; without keys.
        requirements: what the package needs, as its metadata say; None if it is not installed as a package.
        version_of: the installed version of a package.
        stdout_command: imports all that a server imports; what it prints would break the protocol.
        now: seconds since the epoch.
    """

    settings: "Settings | ConfigurationError"
    vendors: "Mapping[str, VendorSettings | ConfigurationError]"
    classes: "Mapping[str, type[Provider]]"
    variables: Collection[str]
    environment: Mapping[str, str]
    requirements: Sequence[str] | None = field(default_factory=lambda: _requirements())
    version_of: Callable[[str], str] = metadata.version
    stdout_command: Sequence[str] = _STDOUT_COMMAND
    now: float = field(default_factory=time.time)


def attempt(read: Callable[[], T]) -> T | ConfigurationError:
    """What `read` returns, or why it cannot."""
    try:
        return read()
    except ConfigurationError as error:
        return error


async def examine(subject: Subject) -> list[Finding]:
    """Everything that is found, in the order in which it is best put right."""
    settings = subject.settings
    found = [*check_packages(subject.requirements, subject.version_of)]
    found += check_settings(subject.settings, subject.vendors)
    found += check_variables(subject.variables, known_variables(subject.classes))
    found += check_stdout(await anyio.to_thread.run_sync(_printed, subject.stdout_command, subject.environment))
    if not isinstance(settings, ConfigurationError):
        found += check_folder(settings.data_dir)
        found += await check_store(settings.data_dir / "store.db", subject.now)
        found += check_file_roots(settings.file_roots)
        if settings.tokens_file is not None:
            found += check_tokens_file(settings.tokens_file)
    found += check_providers(settings, subject.vendors, subject.classes)
    found += await check_local_engine(subject.environment)
    return found


def exit_code(findings: Sequence[Finding]) -> int:
    """0 if there is no problem, else 2."""
    return 2 if any(finding.level is Level.PROBLEM for finding in findings) else 0


def as_text(findings: Sequence[Finding]) -> str:
    """One line per finding, with what to do below it, and a summary."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value:8} {finding.name}: {finding.message}")
        if finding.advice:
            lines.append(f"{'':8} -> {finding.advice}")
    counts = {level: sum(finding.level is level for finding in findings) for level in (Level.PROBLEM, Level.WARNING)}
    names = [f"{count} {level.value}{'' if count == 1 else 's'}" for level, count in counts.items() if count]
    return "\n".join([*lines, "", f"{', '.join(names) or 'All is well'}. {NOT_ASKED}"])


def as_json(findings: Sequence[Finding]) -> str:
    """``{"findings": [{name, level, message, advice}], "ok": …, "vendors_asked": false}``."""
    whole = {
        "ok": exit_code(findings) == 0,
        "vendors_asked": False,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(whole, indent=2)


# The installation


def check_packages(requirements: Sequence[str] | None, version_of: Callable[[str], str]) -> list[Finding]:
    """Python, and whether each package lies within the versions that were tested."""
    release = ".".join(map(str, sys.version_info[:3]))
    found = [Finding("python", Level.OK, f"Python {release} at {sys.executable}")]
    if requirements is None:
        return [
            *found,
            Finding("packages", Level.WARNING, "outpaint-mcp is not installed as a package.", "pip install it."),
        ]
    good = []
    for requirement in requirements:
        name, specifiers = _parsed_requirement(requirement)
        if name is None:
            continue
        try:
            version = version_of(name)
        except metadata.PackageNotFoundError:
            found.append(_problem("packages", f"{name} is not installed.", f"pip install '{requirement}'"))
            continue
        if all(_meets(version, operator, bound) for operator, bound in specifiers):
            good.append(f"{name} {version}")
        else:
            found.append(
                _problem("packages", f"{name} {version} is not supported.", f"pip install '{requirement.strip()}'")
            )
    found.append(Finding("packages", Level.OK, ", ".join(good)))
    return found


def _requirements() -> list[str] | None:
    try:
        return metadata.requires("outpaint-mcp") or []
    except metadata.PackageNotFoundError:
        return None


def _parsed_requirement(text: str) -> tuple[str | None, list[tuple[str, str]]]:
    """A name and its bounds; None for what only an extra needs."""
    named = re.match(r"\s*([A-Za-z0-9._-]+)", text)
    if named is None or "extra" in text.partition(";")[2]:
        return None, []
    return named[1], re.findall(r"(>=|<)\s*([0-9][0-9.]*)", text.partition(";")[0])


def _meets(version: str, operator: str, bound: str) -> bool:
    # Our own bounds are >= and < only, on plain numbers; a pre-release counts as its release.
    has, wants = (tuple(int(part) for part in re.findall(r"\d+", text)[:3]) for text in (version, bound))
    has, wants = ((*numbers, 0, 0, 0)[:3] for numbers in (has, wants))
    return has >= wants if operator == ">=" else has < wants


def check_stdout(printed: str | None) -> list[Finding]:
    """Whether standard output stays the protocol's: what is `printed` by starting would go to the host."""
    if printed is None:
        return [_problem("stdout", "The server cannot be imported in a process of its own.", "Install it again.")]
    if printed:
        return [
            _problem(
                "stdout",
                f"Something prints to standard output when the server starts ({len(printed)} characters), which "
                "breaks the protocol over stdio.",
                "Look for a print in a plug-in, a sitecustomize.py or a .pth file of this Python.",
            )
        ]
    return [Finding("stdout", Level.OK, "Nothing but the protocol goes to standard output.")]


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


# The settings


def check_settings(
    settings: "Settings | ConfigurationError", vendors: "Mapping[str, VendorSettings | ConfigurationError]"
) -> list[Finding]:
    """What cannot be read; the messages name the variables."""
    errors = [one for one in (settings, *vendors.values()) if isinstance(one, ConfigurationError)]
    if not errors:
        return [Finding("settings", Level.OK, "All settings can be read.")]
    return [_problem("settings", error.message, error.advice) for error in errors]


def known_variables(providers: Collection[str]) -> frozenset[str]:
    """Every environment variable that is a setting, the providers' own among them."""
    from outpaint_mcp.settings import Settings, VendorSettings

    names = {f"OUTPAINT_{name}" for name in Settings.model_fields}
    names |= {f"{_prefix(provider)}{name}" for provider in providers for name in VendorSettings.model_fields}
    return frozenset(name.upper() for name in names)


def _prefix(provider: str) -> str:
    return provider.upper().replace("-", "_") + "_"


def check_variables(variables: Collection[str], known: Collection[str]) -> list[Finding]:
    """Variables that were meant as settings and are none."""
    found = []
    prefixes = {name[: name.index("_") + 1] for name in known}
    for name in sorted(variables):
        upper = name.upper()
        if upper in known or not upper.startswith(tuple(prefixes)):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=0.75)
        # A vendor's name may begin variables of another program.
        if near or upper.startswith("OUTPAINT_"):
            advice = f"Was {near[0]} meant?" if near else "Remove it; the README lists the settings."
            found.append(Finding("variables", Level.WARNING, f"No setting is called {name}.", advice))
    return found


def check_file_roots(roots: Sequence[Path] | None) -> list[Finding]:
    """Whether the folders that pictures may lie in are there."""
    if roots is None:
        return [Finding("file roots", Level.OK, "The usual ones: the home, data and working folders.")]
    found = []
    for root in roots:
        if not root.is_absolute():
            advice = "Write the whole path in OUTPAINT_FILE_ROOTS: a host chooses the working folder."
            found.append(Finding("file roots", Level.WARNING, f"{root} depends on the working folder.", advice))
        elif not root.is_dir():
            advice = "Make it, or correct OUTPAINT_FILE_ROOTS."
            found.append(Finding("file roots", Level.WARNING, f"{root} is no folder.", advice))
        elif not os.access(root, os.R_OK | os.X_OK):
            advice = "Let this user read it, or correct OUTPAINT_FILE_ROOTS."
            found.append(Finding("file roots", Level.WARNING, f"{root} cannot be read.", advice))
        elif root == Path(root.anchor):
            advice = "Name the folders that hold pictures in OUTPAINT_FILE_ROOTS."
            found.append(Finding("file roots", Level.WARNING, "Every file may be handed to a vendor.", advice))
    if not roots:
        return [Finding("file roots", Level.OK, "None: pictures come by URL only.")]
    return found or [Finding("file roots", Level.OK, ", ".join(map(str, roots)))]


def check_tokens_file(path: Path) -> list[Finding]:
    """Whether the file of bearer tokens can be read, and who else could read or write it."""
    from outpaint_mcp.web.token_file import TokenFile, token_names

    try:
        TokenFile(path)
        names = token_names(path)
        mode = path.stat().st_mode
    except ConfigurationError as error:
        return [_problem("tokens file", error.message, error.advice)]
    except OSError as error:
        return [_problem("tokens file", f"{path} cannot be read: {error.strerror}.", "Check OUTPAINT_TOKENS_FILE.")]
    if os.name == "posix" and mode & 0o022:
        return [_problem("tokens file", f"Others may write {path}: they could add themselves.", f"chmod 600 {path}")]
    if os.name == "posix" and mode & 0o044:
        return [
            Finding("tokens file", Level.WARNING, f"Others may read the names in {path}.", f"chmod 600 {path}"),
        ]
    if not names:
        advice = "outpaint-mcp token add NAME"
        return [Finding("tokens file", Level.WARNING, f"{path} holds no token: nobody is let in.", advice)]
    return [Finding("tokens file", Level.OK, f"{len(names)} in {path}")]


# The data


def check_folder(
    folder: Path, free_of: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> list[Finding]:
    """Whether the data folder can be used, or made. `free_of` gives the bytes that are free on a path's disk."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    advice = "Give OUTPAINT_DATA_DIR a folder of this user's."
    if not there.is_dir():
        return [_problem("data folder", f"{there} is no folder.", advice)]
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(there, os.W_OK | os.X_OK):
            return [_problem("data folder", f"{folder} cannot be made: {there} is not writable.", advice)]
        free = free_of(there)
    except OSError as error:
        return [_problem("data folder", f"{folder} cannot be written: {error.strerror}.", advice)]
    state = "is there and writable" if there == folder else "will be made with the first order"
    room = f"{free / 10**9:.1f} GB are free"
    if free < SMALL_DISK:
        level = Level.PROBLEM if free < FULL_DISK else Level.WARNING
        return [Finding("data folder", level, f"{folder} {state}, but only {room}.", "Free some space.")]
    return [Finding("data folder", Level.OK, f"{folder} {state}; {room}.")]


async def check_store(path: Path, now: float) -> list[Finding]:
    """Whether the store opens, and what is open in it. One that is not there yet is not made."""
    from outpaint_mcp.storage.store import Store

    if not await anyio.Path(path).exists():
        return [Finding("store", Level.OK, "None yet; it is made with the first order.")]
    store = Store(path, f"doctor-{os.getpid()}")
    try:
        counts = await store.counts(now)
        await store.aclose()
    except OutpaintError as error:
        return [_problem("store", error.message, error.advice)]
    by_status: dict[str, int] = {}
    for (_, status), count in counts.tasks.items():
        by_status[status] = by_status.get(status, 0) + count
    running = by_status.get("queued", 0) + by_status.get("running", 0)
    unsure = by_status.get("unknown", 0)
    total = f"tasks: {sum(by_status.values())}, open: {running}"
    if unsure:
        message = f"It opens; {total}, unknown: {unsure} (a vendor may or may not have taken the order)."
        advice = "See outpaint-mcp tasks, and the vendor's site, before ordering the same again."
        return [Finding("store", Level.WARNING, message, advice)]
    return [Finding("store", Level.OK, f"It opens; {total}.")]


# The providers


def check_providers(
    settings: "Settings | ConfigurationError",
    vendors: "Mapping[str, VendorSettings | ConfigurationError]",
    classes: "Mapping[str, type[Provider]]",
) -> list[Finding]:
    """Each provider's key and address, and whether what `auto` is told to try is there."""
    from outpaint_mcp.providers.http_provider import HttpProvider

    found: list[Finding] = []
    chosen: tuple[str, ...] = ()
    cap = None
    if not isinstance(settings, ConfigurationError):
        chosen, cap = settings.providers or (), settings.max_usd_per_day
    unknown = [name for name in chosen if name not in classes]
    if unknown:
        message = f"OUTPAINT_PROVIDERS names {', '.join(unknown)}, which is not installed."
        found.append(_problem("providers", message, f"There are {', '.join(classes)}."))
    seen: dict[str, str] = {}
    for name, kind in classes.items():
        vendor = vendors.get(name)
        if vendor is None or isinstance(vendor, ConfigurationError) or not issubclass(kind, HttpProvider):
            continue
        key = vendor.api_key.get_secret_value() if vendor.api_key else ""
        if not key:
            if name in chosen:
                message = f"OUTPAINT_PROVIDERS names it, but {kind.key_env} is not set."
                found.append(Finding(name, Level.WARNING, message, f"Set {kind.key_env}, or leave {name} out."))
            else:
                found.append(Finding(name, Level.OK, f"Not used: {kind.key_env} is not set."))
            continue
        problem = wrong_with(key)
        if problem is not None:
            found.append(
                Finding(name, Level.WARNING, f"{kind.key_env} {problem}.", "Copy the key from the vendor's site.")
            )
        elif key in seen:
            message = f"{kind.key_env} is the same as {seen[key]}."
            found.append(Finding(name, Level.WARNING, message, "Give each vendor its own key."))
        else:
            found.append(Finding(name, Level.OK, f"{kind.key_env} is set."))
        seen.setdefault(key, kind.key_env)
        if vendor.base_url is not None:
            found.append(_check_base_url(name, vendor.base_url))
        if cap is not None and not kind.usd and vendor.usd_per_order is None:
            variable = f"{_prefix(name)}USD_PER_ORDER"
            message = "OUTPAINT_MAX_USD_PER_DAY refuses its orders, since its price in USD is not known."
            found.append(Finding(name, Level.WARNING, message, f"Set {variable} to what one order may cost."))
    return found


def wrong_with(key: str) -> str | None:
    """What an API key cannot be right with, as the end of a sentence; None if nothing. Never holds the key."""
    bare = key.strip()
    if bare != key:
        return "has white space around it"
    if re.fullmatch(r"(['\"`]).*\1|['\"`].*|.*['\"`]", bare):
        return "has quotes around it"
    if re.match(r"(bearer|token|x-api-key)[\s:=]", bare, re.IGNORECASE):
        return "holds a header's words and not the key alone"
    if re.match(r"\$|%.*%$|\{\{", bare):
        return "is a variable that nobody has replaced"
    if re.search(r"<|>|\.\.\.|…|x{4}|\*{3}", bare, re.IGNORECASE) or re.search(
        r"your|change.?me|replace|placeholder|example|api.?key|insert", bare, re.IGNORECASE
    ):
        return "looks like a placeholder"
    if re.fullmatch(r"[!-~]+", bare) is None:
        return "holds characters that cannot be part of a key"
    if len(bare) < SHORTEST_KEY:
        return f"is very short for a key (below {SHORTEST_KEY} characters)"
    return None


def _check_base_url(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.hostname or ""
    variable = f"{_prefix(name)}BASE_URL"
    # The host alone: before and behind it a gateway's secret may stand.
    if parts.scheme == "http" and not _is_this_machine(host):
        message = f"{variable} sends the key unencrypted to {host}."
        return Finding(name, Level.WARNING, message, "Use https, unless the way there is protected otherwise.")
    return Finding(name, Level.OK, f"{variable} sends its orders to {host} in place of {name}.")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def check_local_engine(environment: Mapping[str, str]) -> list[Finding]:
    """Whether the local engine really draws: a tiny picture, in a worker process."""
    from outpaint_mcp.providers.local.plan import Canvas
    from outpaint_mcp.providers.local.workers import DrawError, DrawJob, Workers

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="outpaint-doctor-") as name:
        folder = Path(name)
        try:
            from PIL import Image

            Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(folder / "tiny.png")
            job = DrawJob(folder / "tiny.png", Canvas(36, 24, 6, 4), "fast", (1,), folder / "images")
            with anyio.fail_after(DRAW_SECONDS):
                (drawn,) = await Workers(1, environment=environment).draw(job, lambda _: None)
            with Image.open(drawn.path) as image:
                size = image.size
        except (DrawError, OutpaintError) as error:
            return [_problem("local", f"The local engine does not draw: {error.message}", "Install the package again.")]
        except TimeoutError:
            message = f"The local engine has drawn nothing in {DRAW_SECONDS:.0f} seconds."
            return [_problem("local", message, "See whether this machine is busy.")]
        except (ImportError, OSError) as error:
            message = f"The local engine cannot be tried: {type(error).__name__}."
            return [_problem("local", message, "Install Pillow again, and see whether the temporary folder is full.")]
    if size != (36, 24):
        return [_problem("local", "The local engine drew a picture of another size.", "Install the package again.")]
    return [
        Finding("local", Level.OK, f"The local engine draws ({time.monotonic() - started:.1f} s for a tiny picture).")
    ]


def _problem(name: str, message: str, advice: str) -> Finding:
    return Finding(name, Level.PROBLEM, message, advice)
