"""The service, imported and opened when it is first needed.

A host waits for `tools/list` before it shows anything, and that needs almost nothing of the service. So the service is
imported, built and started after the first `tools/list`, or with the first call, or two seconds after the start.
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
        opened: builds the service and keeps it running while its block lasts.
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

    def begin(self) -> None:
        """Open it in a moment: the host is about to get its first answer, which opening would delay."""
        self._listed.set()

    async def get(self) -> "Service":
        """The service, opened now if it is not yet.

        Raises:
            OutpaintError: it cannot be opened; a setting is wrong.
        """
        self._wanted.set()
        await self._ready.wait()
        if self._service is None:
            raise RuntimeError("the service has ended") if self._error is None else self._error.again()
        return self._service

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the service when it is needed while the block lasts, and close it at the end."""

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
                    self._ready.set()
                    await self._stop.wait()
            except OutpaintError as error:
                # Each call gets the error: a host shows a tool's error, but hides why a server did not start.
                self._error = error.again()
            except Exception as error:
                logger.exception("the service failed")
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
        """Close the service before the block ends; orders that are being sent get their answers first."""
        self._close()
        await self._ended.wait()
