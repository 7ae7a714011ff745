"""A secret key in the data folder: made once, shared by the processes that use the folder, kept over restarts."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.private_files import make_folder

KEY_BYTES: Final = 32


def read_key(path: Path) -> bytes:
    """The key in the file `path`, which is made if it is not there, readable by its owner alone.

    Raises:
        ConfigurationError: it cannot be read or made.
    """
    try:
        make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            path.chmod(0o600)
            if len(key := path.read_bytes()) == KEY_BYTES:
                return key
            # What a crash of the machine can leave. What was signed with it is invalid in any case.
            path.unlink()
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            # Of several processes that make it at the same time, the first one's is everybody's.
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The key {path.name} in the data folder cannot be used: {error.strerror}.",
            "Have the operator check OUTPAINT_DATA_DIR and its permissions.",
        ) from error
