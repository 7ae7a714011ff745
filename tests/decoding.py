"""An image library for tests that are about something else: it decodes in this process.

Starting a decoder takes 0.1 s of the processor's time, which is most of what a small order takes.
"""

import json
from collections.abc import Mapping
from typing import Any

from anyio import to_thread

from outpaint_mcp.images import decode_worker
from outpaint_mcp.images.child_processes import ChildProcesses
from outpaint_mcp.images.fair_queue import Place
from outpaint_mcp.images.library import ImageLibrary


class _InThisProcess(ChildProcesses):
    async def run(
        self, job: Mapping[str, Any], *_: Any, place: Place | None = None, seconds: float | None = None
    ) -> dict[str, Any]:
        async with place or self._queue.join(""):
            said = await to_thread.run_sync(lambda: json.dumps(decode_worker._message(json.loads(json.dumps(job)))))
            last: dict[str, Any] = json.loads(said)
            return last


class LibraryInThisProcess(ImageLibrary):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for pool in (self._inputs, self._results):
            pool._processes = _InThisProcess((), queue=pool._queue)
