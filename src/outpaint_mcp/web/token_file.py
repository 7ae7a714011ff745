"""The file of static bearer tokens: one line per token, ``NAME SHA256``, the digest in hexadecimal.

A token is 256 random bits, so its unsalted digest reveals nothing and can be looked up. Tokens themselves are stored
nowhere. The file is read again when it changes: adding and removing tokens takes effect within a second.
"""

import hashlib
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.private_files import make_folder

logger = logging.getLogger(__name__)

PREFIX = "opt_"
"""How a token begins, so that scanners for leaked secrets can recognise it."""
LOOK_SECONDS = 1.0
"""How often the file is checked for a change, at most."""
MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"({_NAME.pattern})\s+([0-9a-f]{{64}})")


class TokenFile:
    """The tokens in the file and their owners.

    Args:
        path: the file.
        seconds: a monotonic clock.

    Raises:
        ConfigurationError: the file, or a line of it, cannot be read.
    """

    def __init__(self, path: Path, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._seconds = seconds
        self._stamp = self._stamped()
        self._names, problems = _parsed(_text(path))
        if problems:
            raise ConfigurationError(f"{path.name}: {problems[0]}.", "Each line is a name and a SHA-256, or a # note.")
        self._checked_at = seconds()

    def name_of(self, token: str) -> str | None:
        """The name of a token's owner, or None if the token is not in the file."""
        self._reload()
        return self._names.get(_digest(token))

    def _reload(self) -> None:
        now = self._seconds()
        if now - self._checked_at < LOOK_SECONDS:
            return
        self._checked_at = now
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            names, problems = _parsed(_text(self._path))
        except ConfigurationError as error:
            # Nobody is let in until the file can be read again.
            names, problems = {}, [str(error)]
            self._stamp = None
        for problem in problems:
            logger.error("%s: %s", self._path.name, problem)
        self._names = names

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def add_token(path: Path, name: str, *, another: bool = False) -> str:
    """Make a token for `name`, add its digest to the file and return it; it cannot be recovered later.

    Args:
        path: the file; it is created if it is missing, readable by its owner only.
        name: letters, digits, ``.``, ``_`` and ``-``, 64 at most. Tasks belong to the name, not to the token.
        another: whether `name` may have a token already, for replacing one.

    Raises:
        ConfigurationError: the name cannot be used, or the file cannot be written.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"{name[:80]!r} cannot be a name.", "Use letters, digits, '.', '_' and '-', 64 at most."
        )
    known: dict[str, str] = {}
    if path.exists():
        known, _ = _parsed(_text(path))
    if name in known.values() and not another:
        raise ConfigurationError(
            f"{name} has a token already.", "Remove it first, or give --another to have both for a while."
        )
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        make_folder(path.parent)
        # O_APPEND: of two tokens added at the same moment none is lost.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a+b") as file:
            file.write(f"{_newline_before(path)}{name} {_digest(token)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(path, error) from error
    return token


def remove_tokens(path: Path, name: str) -> int:
    """Remove every token of `name` from the file; returns how many there were.

    The file is replaced. Where that would break a hard link, or its folder does not allow it, the lines are overwritten
    with spaces. Neither can lose another line, whenever it is interrupted.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    lines = _text(path).splitlines(keepends=True)
    kept = [line for line in lines if _NAME.fullmatch(name) is None or line.split()[:1] != [name]]
    if len(kept) == len(lines):
        return 0
    file = path.resolve()
    try:
        if file.stat().st_nlink > 1:
            _blank(file, name)
        else:
            try:
                _replace(file, "".join(kept))
            except OSError:
                _blank(file, name)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return len(lines) - len(kept)


def _cannot_write(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written: {error.strerror}.",
        "Run this as a user who can write it, or choose another file with --file.",
    )


def _blank(path: Path, name: str) -> None:
    """Overwrite the lines of `name` with spaces, in place."""
    with path.open("r+b") as file:
        start = 0
        for line in file.read(MAX_BYTES).splitlines(keepends=True):
            if line.split()[:1] == [name.encode()]:
                file.seek(start)
                file.write(b" " * len(line.rstrip(b"\r\n")))
            start += len(line)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    """Replace a file's text at once; its owner and its mode stay."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        found = path.stat()
        if os.name == "posix":
            if (part.stat().st_uid, part.stat().st_gid) != (found.st_uid, found.st_gid):
                os.chown(part, found.st_uid, found.st_gid)
            part.chmod(stat.S_IMODE(found.st_mode))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def token_names(path: Path) -> list[str]:
    """The names in the file, each once per token, in its order.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return list(_parsed(_text(path))[0].values())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _newline_before(path: Path) -> str:
    text = path.read_bytes()
    return "\n" if text and not text.endswith(b"\n") else ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigurationError(
                f"{path.name} is longer than a file of tokens can be.",
                "Give the file that outpaint-mcp token add writes.",
            )
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(
            f"The file of tokens {path} cannot be read: {reason}.",
            "Make one with outpaint-mcp token add NAME.",
        ) from error


def _parsed(text: str) -> tuple[dict[str, str], list[str]]:
    """The names by digest, and a sentence for each line that is neither a token nor a comment."""
    names: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            problems.append(f"line {number} cannot be read")
        else:
            names[found[2]] = found[1]
    return names, problems
