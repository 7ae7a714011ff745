"""Starts processes of the program that find all imported: a server takes 0.3 s of CPU time in place of 1."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

SCRIPT = Path(__file__).with_name("preloaded.py")


class ForkedProcess(Process):
    """A process that somebody else forked, who tells how it ended."""

    stdin = stdout = None

    def __init__(self, pid: int, told: BufferedByteReceiveStream, stderr: ByteReceiveStream) -> None:
        self._pid = pid
        self._told = told
        self._stderr = stderr
        self._code: int | None = None
        self._waiting = anyio.Lock()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def stderr(self) -> ByteReceiveStream:
        return self._stderr

    @property
    def returncode(self) -> int | None:
        """How it ended; None also as long as nobody has waited for that."""
        return self._code

    async def wait(self) -> int:
        async with self._waiting:
            if self._code is None:
                self._code = int(await self._told.receive_until(b"\n", 20))
            return self._code

    def send_signal(self, signal: int) -> None:
        os.kill(self._pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def aclose(self) -> None:
        await self._told.aclose()
        await self._stderr.aclose()


class Preloaded:
    """Starts a process of the program with arguments and an environment; its stderr is read, nothing else is.

    `transports.processes.open_program` does so as the program's users do.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        # Whoever is cancelled meanwhile has the process all the same, and ends it.
        with anyio.CancelScope(shield=True):
            ours, theirs = socket.socketpair()
            with theirs:
                connection = await anyio.connect_unix(self._path)
                await connection.send_fds(b"2", [theirs.fileno()])
                asked = json.dumps({"arguments": arguments, "environment": dict(environment)})
                await connection.send(asked.encode() + b"\n")
            told = BufferedByteReceiveStream(connection)
            pid = int(await told.receive_until(b"\n", 20))
            stderr = await UNIXSocketStream.from_socket(ours)
        return ForkedProcess(pid, told, stderr)


@contextlib.contextmanager
def running_preloaded() -> Iterator[Preloaded]:
    """While the block runs, there is a process that forks those that are started."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        command = [sys.executable, str(SCRIPT), path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield Preloaded(path)
