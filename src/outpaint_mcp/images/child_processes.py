"""Runs jobs in child processes that speak JSON lines: one line with the job in, any number of messages out.

The last message of a job is ``{"done": ...}`` or ``{"error": ...}``; the others are passed on as they come. What a job
and its messages mean is the caller's business: images are decoded this way, and the local provider draws this way.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from subprocess import DEVNULL, PIPE
from typing import Any, Final, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from outpaint_mcp.images.fair_queue import FairQueue, Place

OnMessage = Callable[[dict[str, Any]], None]

_MAX_LINE: Final = 1 << 20
_BROKEN: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.DelimiterNotFound,
    OSError,
    ValueError,
)
"""What is raised when the process has ended, or says something that is not a line of JSON."""


class ChildEndedError(Exception):
    """The process ended, or had to be ended, before its job was finished; `exit_code` is negative after a signal."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"the process ended early (exit code {exit_code})")
        self.exit_code = exit_code


class ChildProcesses:
    """As many processes at a time as the queue lets run. Inside ``async with`` one that has finished a job is kept.

    Starting a process takes longer than most short jobs. Outside, each job has a process of its own, which gives all
    its memory back.

    Args:
        command: the command line.
        queue: where jobs wait for their turn.
        environment: for the processes; None is this process's own.
        timeout: for one job, in seconds, without the wait for its turn; None is no limit.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        queue: FairQueue,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._command = command
        self._queue = queue
        self._environment = environment
        self._timeout = timeout
        self._idle: list[Process] = []
        self._keeps = False

    async def __aenter__(self) -> Self:
        self._keeps = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeps = False
        while self._idle:
            await _end(self._idle.pop())

    async def run(
        self,
        job: Mapping[str, Any],
        on_message: OnMessage | None = None,
        on_start: Callable[[], None] | None = None,
        *,
        place: Place | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Run a job, and return its last message. Cancelling kills the process, and so does whatever a callback raises.

        `on_start` is called when the job's turn has come, `on_message` with every message but the last. `place` is the
        job's in the queue; without one it takes its turn as a client of its own name, "". `seconds` go before the
        timeout of all jobs.

        Raises:
            ChildEndedError: the process ended without a last message.
            TimeoutError: the job took longer than the timeout.
            OSError: no process can be started.
        """
        line = json.dumps(job).encode() + b"\n"
        async with place or self._queue.join(""):
            if on_start is not None:
                on_start()
            with anyio.fail_after(seconds or self._timeout):
                while self._idle:
                    try:
                        return await self._converse(self._idle.pop(), line, on_message)
                    except ChildEndedError:
                        # It may have ended while it was idle; then another one gets the job.
                        continue
                # All three streams are pipes of its own: the server's are the protocol's.
                process = await anyio.open_process(
                    self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=self._environment
                )
                return await self._converse(process, line, on_message)

    async def _converse(self, process: Process, line: bytes, on_message: OnMessage | None) -> dict[str, Any]:
        try:
            last = await _last_message(process, line, on_message)
        except BaseException:
            await _end(process, patience=0)
            raise
        if self._keeps and last is not None and "done" in last:
            self._idle.append(process)
            return last
        await _end(process)
        if last is None:
            raise ChildEndedError(process.returncode)
        return last


async def _last_message(process: Process, line: bytes, on_message: OnMessage | None) -> dict[str, Any] | None:
    """The last message of the job on `line`; None if the process ends before, or says something else."""
    assert process.stdin is not None  # noqa: S101 - opened with pipes
    assert process.stdout is not None  # noqa: S101
    # A buffer for each job: after its last message nothing is left in it.
    lines = BufferedByteReceiveStream(process.stdout)
    try:
        await process.stdin.send(line)
    except _BROKEN:
        return None
    while True:
        try:
            message = json.loads(await lines.receive_until(b"\n", _MAX_LINE))
        except _BROKEN:
            return None
        if not isinstance(message, dict):
            return None
        if "done" in message or "error" in message:
            return message
        if on_message is not None:
            on_message(message)


async def _end(process: Process, *, patience: float = 1.0) -> None:
    """Let a process end, as it does when its input is closed; kill it if it has not within `patience` seconds."""
    with anyio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with anyio.move_on_after(patience):
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
