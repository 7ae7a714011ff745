"""Tells clients that watch a task's resource of every change of its status, whichever process made it.

Modern clients listen on the server's subscription bus; older ones subscribe by request, and are told on their session.
"""

import contextlib
import logging
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ListenHandler, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError
from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.task import Status
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.resources import TASK_URI

logger = logging.getLogger(__name__)

REMEMBERED: Final = 10_000
"""Of how many tasks the last told status is remembered."""
SEND_SECONDS: Final = 5.0
"""How long a client that does not read has to take a notification; then it misses that one."""

WATCHED: Final = 100
"""How many tasks one session of an older client watches at once; then it watches the first of them no longer."""
SILENT_STREAMS: Final = 100
"""How many streams one client may hold open on which nothing ever comes."""


class ClientBus:
    """The SDK's bus of changes, on which every listener hears of its own client's tasks only.

    A subscription to another's task is taken like one to a task that does not exist: it stays silent.

    Args:
        client_of: who makes the current request.
    """

    def __init__(self, client_of: Callable[[], str]) -> None:
        self._client_of = client_of
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
        self._listeners[token] = (self._client_of(), listener)

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe


class TaskListenHandler(ListenHandler):
    """Serves `subscriptions/listen`; a stream on which a task is watched is a waiting call of its client.

    The lists never change, so no client is granted to hear of that. Clients that ask for nothing else (agent frameworks
    do, for each connection) hold a stream that stays silent and takes no waiting call's place.

    Args:
        bus: what is listened to.
        events: told which tasks are watched.
        client_of: who makes the current request.
        limits: how many calls of one client may wait at once.
    """

    def __init__(self, bus: ClientBus, events: TaskEvents, client_of: Callable[[], str], limits: RateLimits) -> None:
        super().__init__(bus)
        self._events = events
        self._client_of = client_of
        self._limits = limits
        self._silent = ListenHandler(bus, max_subscriptions=sys.maxsize)
        self._silent_limits = RateLimits(waits=SILENT_STREAMS)

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        watched = params.notifications.resource_subscriptions
        granted = SubscriptionFilter(resource_subscriptions=watched) if watched else SubscriptionFilter()
        params = params.model_copy(update={"notifications": granted})
        if not watched:
            with self._silent_limits.waiting(self._client_of()):
                return await self._silent(ctx, params)
        ids = [found[1] for uri in watched if (found := TASK_URI.fullmatch(str(uri)))]
        with self._limits.waiting(self._client_of()), self._events.watching(*ids):
            return await super().__call__(ctx, params)

    def close(self) -> None:
        super().close()
        self._silent.close()


class TaskSubscriptions:
    """Tells clients of every change of status of the tasks that they watch.

    Args:
        lazy: the service whose tasks they are.
        events: what the service publishes.
        client_of: who makes the current request; nobody can watch another's task.
    """

    def __init__(self, lazy: LazyService, events: TaskEvents, client_of: Callable[[], str]) -> None:
        self.bus = ClientBus(client_of)
        self._lazy = lazy
        self._events = events
        self._client_of = client_of
        # The sessions of older clients, by the URI that they watch. Nothing tells when such a client is gone, so they
        # are held until the task is final, or no process polls it any more: it does not change after that.
        self._sessions: dict[str, list[ServerSession]] = {}
        self._told: OrderedDict[str, Status] = OrderedDict()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pass the service's events on while the block lasts."""
        async with anyio.create_task_group() as sends:
            unsubscribe = self._events.subscribe(lambda event: self._tell(event, sends))
            try:
                yield
            finally:
                unsubscribe()
                sends.cancel_scope.cancel()

    def _tell(self, event: TaskEvent, sends: TaskGroup) -> None:
        uri = f"outpaint://tasks/{event.task_id}"
        watching = self._sessions.get(uri, ())
        if event.status.is_final or (event.status is Status.UNKNOWN and event.is_over):
            self._keep(uri, [])
        if self._told.get(event.task_id) is event.status:
            return
        self._told[event.task_id] = event.status
        self._told.move_to_end(event.task_id)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self.bus.publish_to(event.client, ResourceUpdated(uri))
        for session in watching:
            # Each by itself: one that is not read holds up no other.
            sends.start_soon(_send, session, uri)

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        """Watch a task, for clients of the older protocol."""
        uri = str(params.uri)
        found = TASK_URI.fullmatch(uri)
        if found is None:
            refused = InvalidRequestError("Only a task's resource can be watched.", "Give outpaint://tasks/ID.")
            raise MCPError(INVALID_PARAMS, str(refused), {"uri": uri})
        try:
            task = await (await self._lazy.get()).get_task(found[1], client=self._client_of())
        except OutpaintError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"uri": uri}) from error
        self._drop(uri, ctx.session)
        told = self._told.get(found[1])
        if not task.status.is_final and (told is None or not told.is_final):
            self._keep(uri, [*self._sessions.get(uri, ()), ctx.session])
            held = [
                one
                for one, sessions in self._sessions.items()
                if any(_same_connection(session, ctx.session) for session in sessions)
            ]
            if len(held) > WATCHED:
                self._drop(held[0], ctx.session)
        return EmptyResult()

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """Watch a task no longer, for clients of the older protocol."""
        self._drop(str(params.uri), ctx.session)
        return EmptyResult()

    def _drop(self, uri: str, session: ServerSession) -> None:
        self._keep(uri, [one for one in self._sessions.get(uri, ()) if not _same_connection(one, session)])

    def _keep(self, uri: str, sessions: list[ServerSession]) -> None:
        """Have these sessions watch a task, and no others."""
        task_id = uri.rpartition("/")[2]
        if sessions:
            if uri not in self._sessions:
                self._events.watched.update((task_id,))
            self._sessions[uri] = sessions
        elif self._sessions.pop(uri, None) is not None:
            self._events.unwatch(task_id)


async def _send(session: ServerSession, uri: str) -> None:
    with anyio.move_on_after(SEND_SECONDS):
        try:
            await session.send_resource_updated(uri)
        except Exception as error:
            logger.debug("a client was not told of %s: %r", uri, error)


def _same_connection(one: ServerSession, other: ServerSession) -> bool:
    """Whether two requests came over one connection.

    The SDK makes a session for each request; what those of one connection share is the object that `initialize` left.
    """
    return one is other or (one.client_params is not None and one.client_params is other.client_params)
