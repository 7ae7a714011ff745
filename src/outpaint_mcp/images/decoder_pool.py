"""Has images decoded by child processes, since a hostile file must not harm the server. Opens no image itself."""

import base64
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import anyio

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError, UndecidedImageError
from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.images.child_processes import ChildEndedError, ChildProcesses
from outpaint_mcp.images.fair_queue import FairQueue
from outpaint_mcp.images.small_copy import SmallCopy

DECODER: Final = (sys.executable, "-P", "-m", "outpaint_mcp.images.decode_worker")

_PASTES_AS: Final = 6
"""So many times as long as decoding may it take to paste an image back: two are decoded, and one is written."""
_STARTS: Final = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/webp": rb"RIFF.{4}WEBP",
    "image/gif": rb"GIF8[79]a",
    "image/avif": rb".{4}ftypavi[fs]",
    "image/tiff": rb"II\*\x00|MM\x00\*",
}
"""How the files begin that are kept though no process could open them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an image's file says of it, width and height in pixels; `unchecked` if nobody could decode it, so it may be
    damaged. `size` is how many bytes of the file are about its pixels, where they were counted.
    """

    mime_type: str
    width: int | None
    height: int | None
    unchecked: bool = False
    size: int | None = None


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

    async def measure(self, file: Path, client: str) -> Measured:
        """The MIME type, width and height of an image, which is decoded as a whole.

        Raises:
            InvalidImageError: it cannot be decoded.
            UndecidedImageError: that takes more time or memory than there is.
            RateLimitedError: too many images of this client wait already.
            ConfigurationError: no process can be started.
        """
        return Measured(*await self._run("measure", file, client))

    async def size(self, file: Path, client: str) -> Measured:
        """As `measure`, by the header alone."""
        return Measured(*await self._run("size", file, client))

    async def measure_result(self, file: Path, client: str) -> Measured:
        """As `measure`, of an image that was paid for: what cannot be decoded here may be opened by its owner.

        Raises:
            InvalidImageError: it is damaged, or no image.
            ConfigurationError: no process can be started.
        """
        try:
            return replace(await self.measure(file, client), size=None)
        except UndecidedImageError as error:
            undecided = error
        try:
            return replace(await self.size(file, client), unchecked=True)
        except InvalidImageError:
            async with await anyio.open_file(file, "rb") as opened:
                start = await opened.read(16)
            for mime_type, pattern in _STARTS.items():
                if re.match(pattern, start, re.DOTALL):
                    return Measured(mime_type, None, None, unchecked=True)
            raise undecided from None

    async def shrink(self, file: Path, client: str, copy: SmallCopy) -> tuple[bytes, str]:
        """The bytes and the MIME type of a small copy of an image.

        Raises:
            OutpaintError: as for `measure`.
        """
        mime_type, data = await self._run("shrink", file, client, copy=asdict(copy))
        return base64.b64decode(data), mime_type

    async def clean(
        self,
        file: Path,
        to: Path,
        client: str,
        *,
        size: tuple[int, int] | None = None,
        canvas: tuple[int, int, int, int] | None = None,
        mask_to: Path | None = None,
    ) -> tuple[str, int, int, int, bool, tuple[str, ...]]:
        """Write a copy of an image that may leave this machine; see `clean_copy`.

        Returns its MIME type, its length in bytes, its width and height in pixels, whether it was needless, and
        notes on what it lacks. With `mask_to`, `size` and `canvas` are given, and a mask for them is written there.

        Raises:
            OutpaintError: as for `measure`.
        """
        mask = None if mask_to is None else str(mask_to)
        found = await self._run("clean", file, client, to=str(to), size=size, canvas=canvas, mask_to=mask)
        mime_type, length, width, height, needless, notes = found
        return mime_type, length, width, height, needless, tuple(notes)

    async def paste_back(self, file: Path, original: Path, finish: Finish, to: Path, client: str) -> tuple[bool, str]:
        """Write the image as it was ordered; see `images.paste_back` for the arguments and the result.

        Raises:
            OutpaintError: as for `measure`.
        """
        job = {"original": str(original), "finish": asdict(finish), "to": str(to)}
        pasted, note = await self._run("paste", file, client, seconds=_PASTES_AS * self._timeout, **job)
        return pasted, note

    async def _run(
        self,
        action: Literal["measure", "size", "shrink", "clean", "paste"],
        file: Path,
        client: str,
        *,
        seconds: float | None = None,
        **more: Any,
    ) -> Any:
        seconds = seconds or self._timeout
        place = self._queue.join(client)
        try:
            last = await self._processes.run(
                {"action": action, "file": str(file), **more}, place=place, seconds=seconds
            )
        except TimeoutError:
            raise UndecidedImageError(
                f"The image takes longer than {seconds:g} s to decode.",
                "Give a smaller one, or save it anew as an ordinary JPEG or PNG.",
            ) from None
        except ChildEndedError:
            raise UndecidedImageError(
                "The image cannot be decoded: its decoder failed.", "Give another image."
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"The server can start no process ({error.strerror or error}).",
                "Call again later; have the operator look at the machine's memory and its limit of processes.",
            ) from error
        if "error" in last:
            found = last["error"]
            kind = UndecidedImageError if found["undecided"] else InvalidImageError
            raise kind(found["message"], found["advice"])
        return last["done"]
