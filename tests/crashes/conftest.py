"""Processes that place one order each."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from outpaint_mcp.sandbox import VENDORS, environment, seed_id

SCRIPT = Path(__file__).with_name("order_once.py")


async def _nothing(passed: Sequence[str]) -> None:
    pass


class Processes:
    def __init__(self, path: str) -> None:
        self._path = path

    async def place(
        self,
        folder: Path,
        base_url: str,
        *,
        store: str = "",
        die_at: str | int = 0,
        vendor: str = "apimart",
        image: str = "",
        clock: tuple[float, float] = (0, 0),
        pause: float = 0,
        on_boundary: Callable[[Sequence[str]], Awaitable[None]] = _nothing,
    ) -> tuple[list[str], dict[str, Any] | None]:
        """Place an order, in a process of its own, with the vendor of a sandbox; see `order_once.place`.

        `store` is by default a file in the folder.

        Returns:
            The boundaries that were passed, and the task, or the code of the refusal; None if the process was killed.
        """
        variables = environment(base_url)
        arguments = {
            "folder": str(folder),
            "store": store or str(folder / "store.db"),
            "vendor": vendor,
            "key": VENDORS[vendor].key,
            "url": variables[f"{vendor.upper()}_BASE_URL"],
            "task_id": "" if image else seed_id(vendor, grid=True),
            "image": image,
            "die_at": str(die_at),
            "clock": clock,
            "pause": pause,
        }
        passed: list[str] = []
        async with await anyio.connect_unix(self._path) as stream:
            lines = BufferedByteReceiveStream(stream)
            await stream.send(json.dumps(arguments).encode() + b"\n")
            while True:
                try:
                    line = (await lines.receive_until(b"\n", 1 << 20)).decode()
                except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
                    return passed, None
                if line.startswith("{"):
                    told = json.loads(line)
                    assert "broke" not in told, told["broke"]
                    return passed, told
                passed.append(line.partition(" ")[2])
                await on_boundary(passed)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Where processes are forked that have imported everything."""
    if sys.platform == "win32":
        pytest.skip("needs SIGKILL")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with subprocess.Popen([sys.executable, SCRIPT, path], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"listening\n"
                yield Processes(path)
            finally:
                process.kill()
