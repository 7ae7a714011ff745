"""A browser in another process, driven by JavaScript that the tests hand over."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from ..node_tools import NODE, NODE_MODULES

HERE: Final = Path(__file__).parent
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS: Final = HERE.parent.parent / "build" / "screenshots"


class Chromium:
    """One browser; `run` runs the body of an async function of `page`, `view`, `helpers` and `args` in its driver.

    `view` is the frame with the view, `helpers` what driver.mjs has.
    """

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, BufferedByteReceiveStream(process.stdout)

    async def run(self, code: str, **args: Any) -> Any:
        """What the code returns.

        Raises:
            AssertionError: it failed; with its error.
        """
        await self._to.send(json.dumps({"code": code, "args": args}).encode() + b"\n")
        with anyio.fail_after(90):
            answer = json.loads(await self._from.receive_until(b"\n", 64_000_000))
        assert "error" not in answer, answer["error"]
        return answer["result"]


@contextlib.asynccontextmanager
async def open_chromium() -> AsyncIterator[Chromium]:
    with tempfile.TemporaryDirectory(prefix="outpaint-chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            str(NODE),
            str(HERE / "driver.mjs"),
            str(NODE_MODULES),
            str(CHROMIUM),
            profile,
            str(HERE / "host.js"),
        ]
        environment = {**os.environ, "HOME": profile}
        async with await anyio.open_process(command, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdin is not None
            yield Chromium(process)
            await process.stdin.aclose()
            with anyio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()
