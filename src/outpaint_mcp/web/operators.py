"""What an operator's tools ask of a server or a worker: its health, whether it is ready, and its metrics."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from outpaint_mcp.domain.errors import NotReadyError, OutpaintError
from outpaint_mcp.tasks.service import Service
from outpaint_mcp.web.refusals import refusal

if TYPE_CHECKING:
    from outpaint_mcp.web.metrics import Metrics

NEGLECTED_SECONDS: Final = 60.0
"""For how long nobody need look for due tasks until the server is unhealthy: the database may be away for a while."""
NOT_OPEN: Final = NotReadyError("The server is not open yet, or stops.", "Call again in 5 seconds.")
_STUCK: Final = NotReadyError("The server no longer follows its tasks.", "Have the operator look at its log.")
_STOPPING: Final = NotReadyError("The server is stopping.", "Call again in a minute.")


class Operators:
    """The answers of one service.

    Args:
        service: gives it, or raises OutpaintError.
        is_open: whether it is there.
    """

    def __init__(self, service: Callable[[], Awaitable[Service]], is_open: Callable[[], bool]) -> None:
        self._service = service
        self._is_open = is_open

    def routes(self) -> list[BaseRoute]:
        """What anybody may ask."""
        return [Route("/healthz", self._healthz), Route("/readyz", self._readyz)]

    def app(self, metrics: "Metrics") -> ASGIApp:
        """The application for a port that only the operator reaches."""

        async def page(_: Request) -> Response:
            try:
                return Response(await metrics.page(await self._service()), media_type=metrics.content_type)
            except OutpaintError as error:
                return refusal(503, error)

        return Starlette(routes=[Route("/metrics", page), *self.routes()])

    async def _healthz(self, _: Request) -> Response:
        """Whether it is better to start the process anew: due tasks have not been looked for though it was time."""
        if self._is_open() and (await self._service()).due_tasks.neglected_seconds > NEGLECTED_SECONDS:
            return refusal(503, _STUCK)
        return PlainTextResponse("ok")

    async def _readyz(self, _: Request) -> Response:
        """Whether orders are accepted: the service is open, the store answers, and it is not stopping."""
        if not self._is_open():
            return refusal(503, NOT_OPEN)
        try:
            service = await self._service()
            await service.check()
        except OutpaintError as error:
            # Anybody may ask, and what is wrong concerns the operator.
            return refusal(503, type(error)("The server takes no orders.", "Have the operator look at its log."))
        return refusal(503, _STOPPING) if service.stopping else PlainTextResponse("ready")
