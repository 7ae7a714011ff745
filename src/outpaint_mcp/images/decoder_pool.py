"""Has images decoded by child processes, since a hostile file must not harm the server. Opens no image itself."""

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError
from outpaint_mcp.images.child_processes import ChildEndedError, ChildProcesses

DECODER: Final = (sys.executable, "-P", "-m", "outpaint_mcp.images.decode_worker")


class DecoderPool:
    """At most `limit` decoding processes at a time. Inside ``async with`` they are kept for the next image.

    Args:
        limit: how many images are decoded at the same time.
        timeout: for one image, in seconds.
        command: the process's command line.
        environment: its environment; None is this process's own.
    """

    def __init__(
        self,
        *,
        limit: int,
        timeout: float,
        command: tuple[str, ...] = DECODER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._processes = ChildProcesses(command, limit=limit, environment=environment, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._processes.__aexit__(*error)

    async def measure(self, file: Path, *, trusted: bool = False) -> tuple[str, int, int]:
        """The MIME type, width and height of an image; of a `trusted` one, which we drew, by its header alone.

        Raises:
            InvalidImageError: it cannot be decoded, or that takes too long.
            ConfigurationError: no process can be started.
        """
        mime_type, width, height = await self._run("size" if trusted else "measure", file)
        return mime_type, width, height

    async def preview(self, file: Path) -> bytes:
        """A small JPEG of an image.

        Raises:
            InvalidImageError, ConfigurationError: as for `measure`.
        """
        return base64.b64decode(await self._run("preview", file))

    async def _run(self, action: Literal["measure", "size", "preview"], file: Path) -> Any:
        try:
            last = await self._processes.run({"action": action, "file": str(file)})
        except TimeoutError:
            raise InvalidImageError("The image takes too long to decode.", "Give a simpler image.") from None
        except ChildEndedError:
            raise InvalidImageError("The image cannot be decoded: its decoder failed.", "Give another image.") from None
        except OSError as error:
            raise ConfigurationError(f"The server can start no process ({error.strerror or error}).") from error
        if "error" in last:
            raise InvalidImageError(**last["error"])
        return last["done"]
