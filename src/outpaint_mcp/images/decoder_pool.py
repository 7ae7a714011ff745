"""Has pictures decoded, by processes that it starts, keeps for the next picture, and ends. Knows no picture itself.

Starting a process takes longer than looking at most pictures. What one file did to a process is not carried on to many
others: see `picture_process`.
"""

import json
import sys
from collections.abc import Mapping
from subprocess import DEVNULL, PIPE
from typing import Any, Final, Literal, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError

DECODER: Final = (sys.executable, "-P", "-m", "outpaint_mcp.images.decode_worker")
_LONGEST_LINE: Final = 1 << 20
_BROKE_OFF: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.DelimiterNotFound,
    ValueError,
)
"""Without an answer, or with one that cannot be read."""


class DecoderPool:
    """At most `at_once` decoding processes at a time. Inside ``async with`` they are kept for the next picture.

    Args:
        at_once: how many pictures are decoded at the same time.
        seconds: how long one may take.
        command: the process's command line.
        environment: its environment; None is this process's.
    """

    def __init__(
        self,
        *,
        at_once: int,
        seconds: float,
        command: tuple[str, ...] = DECODER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._places = anyio.CapacityLimiter(at_once)
        self._seconds = seconds
        self._command = command
        self._environment = environment
        self._idle: list[Process] = []
        self._keeps = False

    async def __aenter__(self) -> Self:
        self._keeps = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeps = False
        while self._idle:
            await _end(self._idle.pop())

    async def ask(self, action: Literal["measure", "size", "preview"], file: str) -> Any:
        """What a decoder says of a file. Cancelling ends the decoder.

        Raises:
            InvalidImageError: it is no picture that can be decoded, or takes too long.
            ConfigurationError: no process can be started.
        """
        question = json.dumps({"action": action, "file": file}).encode() + b"\n"
        async with self._places:
            try:
                with anyio.fail_after(self._seconds):
                    said: dict[str, Any] | None = None
                    while said is None and self._idle:
                        # It may have ended while it was idle; then the next one is asked.
                        said = await self._converse(self._idle.pop(), question)
                    if said is None:
                        said = await self._converse(await self._start(), question)
            except TimeoutError:
                raise InvalidImageError("The picture takes too long to decode.", "Give a simpler picture.") from None
        if said is None:
            raise InvalidImageError("The picture cannot be decoded: its decoder broke off.", "Give another picture.")
        if "refused" in said:
            raise InvalidImageError(**said["refused"])
        return said["answer"]

    async def _start(self) -> Process:
        try:
            # All three streams are its own: the server's are the protocol's.
            return await anyio.open_process(
                self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=self._environment
            )
        except OSError as error:
            raise ConfigurationError(f"The server can start no process ({error.strerror or error}).") from error

    async def _converse(self, process: Process, question: bytes) -> dict[str, Any] | None:
        """The answer to a question; None if the process ended without one."""
        said: dict[str, Any] | None = None
        try:
            assert process.stdin is not None  # noqa: S101 - opened with pipes
            assert process.stdout is not None  # noqa: S101
            await process.stdin.send(question)
            said = json.loads(await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", _LONGEST_LINE))
        except _BROKE_OFF:
            pass
        except BaseException:
            await _end(process, patience=0)
            raise
        if self._keeps and said is not None and "answer" in said:
            self._idle.append(process)
        else:
            await _end(process)
        return said


async def _end(process: Process, *, patience: float = 1.0) -> None:
    """Let a process end, which it does when nothing more can come; or kill it."""
    with anyio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with anyio.move_on_after(patience):
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
