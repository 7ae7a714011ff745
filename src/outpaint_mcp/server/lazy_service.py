"""The service, opened when it is first needed.

A host waits for `tools/list` before it shows anything, and nearly all that the service is made of plays no part in it.
So it is imported, built and started after the first answer, or with the first call, or after a short while.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import anyio

from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError

if TYPE_CHECKING:
    from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

OPEN_SECONDS = 2.0
"""How long after the start the service is opened at the latest."""
ANSWER_SECONDS = 0.1
"""How long the first answer has to leave before the service is opened."""


class LazyService:
    """A service that is opened once, inside `running()`.

    Args:
        opened: makes the service and keeps it running while its block lasts.
    """

    def __init__(self, opened: "Callable[[], AbstractAsyncContextManager[Service]]") -> None:
        self._opened = opened
        self._wanted = anyio.Event()
        self._listed = anyio.Event()
        self._ready = anyio.Event()
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._service: Service | None = None
        self._error: OutpaintError | None = None
        self.on_open: Callable[[Service], None] = lambda service: None

    def begin(self) -> None:
        """Open it in a moment: the host is about to get its first answer, and opening would hold that up."""
        self._listed.set()

    async def get(self) -> "Service":
        """The service, opened now if it is not yet.

        Raises:
            OutpaintError: it cannot be opened; a setting is wrong.
        """
        self._wanted.set()
        await self._ready.wait()
        if self._service is None:
            raise self._error or RuntimeError("the service has ended")
        return self._service

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def open_soon() -> None:
            with anyio.move_on_after(OPEN_SECONDS):
                await self._listed.wait()
                await anyio.sleep(ANSWER_SECONDS)
            self._wanted.set()

        async def host() -> None:
            try:
                await self._wanted.wait()
                if self._stop.is_set():
                    return
                async with self._opened() as self._service:
                    self.on_open(self._service)
                    self._ready.set()
                    await self._stop.wait()
            except OutpaintError as error:
                # Told to whoever calls: a host shows a tool's error, and hides a server that did not start.
                self._error = error
            except Exception as error:
                logger.exception("the service broke off")
                self._error = ConfigurationError(f"The server cannot start ({type(error).__name__}): see its log.")
            finally:
                self._service = None
                self._ready.set()
                self._ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_soon)
            tasks.start_soon(host)
            try:
                yield
            finally:
                self._close()

    def _close(self) -> None:
        self._stop.set()
        self._listed.set()
        self._wanted.set()

    async def end(self) -> None:
        """Close the service before its block ends; orders that are being sent get their answers first."""
        self._close()
        await self._ended.wait()
