"""Tells clients that watch a task's resource of every change of its status, in whichever process it changed.

Modern clients listen on the server's subscription bus; older ones subscribe by request, and are told on their session.
"""

import contextlib
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.task import Status
from outpaint_mcp.server.lazy_service import LazyService

if TYPE_CHECKING:
    from outpaint_mcp.tasks.service import Service

logger = logging.getLogger(__name__)

TASK_URI = re.compile(r"outpaint://tasks/([^/]+)")
REMEMBERED = 10_000
"""Of how many tasks the last told status is remembered."""


class ClientBus:
    """The SDK's bus of changes, on which every listener hears of its own client's tasks only.

    A subscription to another's task is taken like one to a task that does not exist: it stays silent.

    Args:
        client_of: who makes the current call.
    """

    def __init__(self, client_of: Callable[[], str]) -> None:
        self._caller_of = client_of
        self._listeners: dict[object, tuple[str, Callable[[ServerEvent], None]]] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Deliver what concerns every client."""
        for _, listener in tuple(self._listeners.values()):
            listener(event)

    def publish_to(self, client: str, event: ServerEvent) -> None:
        """Deliver what concerns one client."""
        for owner, listener in tuple(self._listeners.values()):
            if owner == client:
                listener(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener of the current client; returns what ends it."""
        token = object()
        self._listeners[token] = (self._caller_of(), listener)

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe


class TaskSubscriptions:
    """Publishes the changes of a service's tasks.

    Args:
        late: whose tasks; the service's `on_change` is set to this object's.
        client_of: who makes the current call; nobody can subscribe to another's task.
    """

    def __init__(self, late: LazyService, client_of: Callable[[], str]) -> None:
        self.bus = ClientBus(client_of)
        self._late = late
        self._caller_of = client_of
        self._sessions: dict[str, set[ServerSession]] = {}
        self._told: OrderedDict[str, Status] = OrderedDict()
        self._changed: set[str] = set()
        self._woken = anyio.Event()
        late.on_open = self._watch

    def serve(self, server: MCPServer[None]) -> None:
        """Answer the older protocol's subscriptions. The SDK has no public door for them: hence its inner server."""
        inner = server._lowlevel_server
        inner.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        inner.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._publish)
            yield
            tasks.cancel_scope.cancel()

    def _watch(self, service: "Service") -> None:
        service.on_change = self._note

    def _note(self, task_id: str) -> None:
        self._changed.add(task_id)
        self._woken.set()

    async def _publish(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            changed, self._changed = self._changed, set()
            for task_id in changed:
                with contextlib.suppress(OutpaintError):
                    await self._tell(task_id)

    async def _tell(self, task_id: str) -> None:
        found = await (await self._late.get()).status_of(task_id)
        if found is None or self._told.get(task_id) is found[1]:
            return
        client, status = found
        self._told[task_id] = status
        self._told.move_to_end(task_id)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        uri = f"outpaint://tasks/{task_id}"
        self.bus.publish_to(client, ResourceUpdated(uri))
        for session in tuple(self._sessions.get(uri, ())):
            try:
                await session.send_resource_updated(uri)
            except Exception as error:
                # The client is gone: that is how a session that never unsubscribed is found out.
                logger.debug("a watcher of %s is gone: %r", uri, error)
                self._drop(uri, session)

    async def _subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        uri = str(params.uri)
        found = TASK_URI.fullmatch(uri)
        if found is None:
            raise MCPError(
                INVALID_PARAMS, "Only a task's resource, outpaint://tasks/{id}, can be watched", {"uri": uri}
            )
        try:
            await (await self._late.get()).get_task(found[1], client=self._caller_of())
        except OutpaintError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"uri": uri}) from error
        self._sessions.setdefault(uri, set()).add(ctx.session)
        return EmptyResult()

    async def _unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._drop(str(params.uri), ctx.session)
        return EmptyResult()

    def _drop(self, uri: str, session: ServerSession) -> None:
        sessions = self._sessions.get(uri, set())
        sessions.discard(session)
        if not sessions:
            self._sessions.pop(uri, None)
