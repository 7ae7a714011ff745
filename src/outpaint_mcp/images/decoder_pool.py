"""Has images decoded by child processes, since a hostile file must not harm the server. Opens no image itself."""

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError
from outpaint_mcp.images.child_processes import ChildEndedError, ChildProcesses
from outpaint_mcp.images.fair_queue import FairQueue

DECODER: Final = (sys.executable, "-P", "-m", "outpaint_mcp.images.decode_worker")


class DecoderPool:
    """Decoding processes, which are kept for the next image inside ``async with``.

    Args:
        queue: where images wait for their turn.
        timeout: for one image, in seconds.
        command: the process's command line.
        environment: its environment; None is this process's own.
    """

    def __init__(
        self,
        *,
        queue: FairQueue,
        timeout: float,
        command: tuple[str, ...] = DECODER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._queue = queue
        self._timeout = timeout
        self._processes = ChildProcesses(command, queue=queue, environment=environment, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self._processes.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._processes.__aexit__(*error)

    async def measure(self, file: Path, client: str, *, trusted: bool = False) -> tuple[str, int, int]:
        """The MIME type, width and height of an image; of a `trusted` one, which we drew, by its header alone.

        Raises:
            InvalidImageError: it cannot be decoded, or that takes too long.
            RateLimitedError: too many images of this client wait already.
            ConfigurationError: no process can be started.
        """
        mime_type, width, height = await self._run("size" if trusted else "measure", file, client)
        return mime_type, width, height

    async def preview(self, file: Path, client: str) -> bytes:
        """A small JPEG of an image.

        Raises:
            OutpaintError: as for `measure`.
        """
        return base64.b64decode(await self._run("preview", file, client))

    async def clean(self, file: Path, to: Path, client: str) -> tuple[str, int]:
        """Write a copy of an image that may leave this machine; returns its MIME type and its length in bytes.

        Raises:
            OutpaintError: as for `measure`.
        """
        mime_type, size = await self._run("clean", file, client, to=str(to))
        return mime_type, size

    async def _run(
        self, action: Literal["measure", "size", "preview", "clean"], file: Path, client: str, **more: str
    ) -> Any:
        place = self._queue.join(client)
        try:
            last = await self._processes.run({"action": action, "file": str(file), **more}, place=place)
        except TimeoutError:
            raise InvalidImageError(
                f"The image takes longer than {self._timeout:g} s to decode.",
                "Give a smaller one, or save it anew as an ordinary JPEG or PNG.",
            ) from None
        except ChildEndedError:
            raise InvalidImageError("The image cannot be decoded: its decoder failed.", "Give another image.") from None
        except OSError as error:
            raise ConfigurationError(f"The server can start no process ({error.strerror or error}).") from error
        if "error" in last:
            raise InvalidImageError(**last["error"])
        return last["done"]
