"""Clients that subscribe to a task hear of its changes, in both eras of the protocol."""

import contextlib
import gc
import json
import time
import types
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp import Client
from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification, SubscribeRequestParams, TextResourceContents

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import UnknownTaskError
from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.task import Status
from outpaint_mcp.server.app import RATE_LIMITED, build_server
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.rate_limits import RateLimits
from outpaint_mcp.server.subscriptions import SEND_SECONDS, WATCHED, TaskSubscriptions
from outpaint_mcp.storage.sqlite.store import SqliteStore

from ..serving import connected, picture, server_for, settings_for
from ..storage.claim_many import record

pytestmark = pytest.mark.usefixtures("decoded_here")


async def test_a_modern_client_that_listens_hears_of_every_change_of_status(tmp_path: Path) -> None:
    order = {"image": str(picture(tmp_path, width=300, height=200)), "wait_seconds": 0}
    async with connected(settings_for(tmp_path)) as client:
        task = (await client.call_tool("outpaint", order)).structured_content
        uri = f"outpaint://tasks/{task['id']}"
        async with client.listen(resource_subscriptions=[uri]) as events:
            with anyio.fail_after(30):
                async for event in events:
                    assert event == ResourceUpdated(uri)
                    (told,) = (await client.read_resource(uri)).contents
                    assert isinstance(told, TextResourceContents)
                    if json.loads(told.text)["status"] == "succeeded":
                        break


async def test_listening_for_lists_that_never_change_takes_no_waiting_calls_place() -> None:
    service: Any = types.SimpleNamespace()
    server = build_server(LazyService(lambda: contextlib.nullcontext(service)), limits=RateLimits(waits=1))
    uri = "outpaint://tasks/op-1"
    async with Client(server) as client, contextlib.AsyncExitStack() as streams:
        for silent in (
            client.listen(tools_list_changed=True),
            client.listen(prompts_list_changed=True, resources_list_changed=True),
        ):
            stream = await streams.enter_async_context(silent)
            assert stream.honored.model_dump(exclude_none=True) == {}
        watching = await streams.enter_async_context(
            client.listen(tools_list_changed=True, resource_subscriptions=[uri])
        )
        assert watching.honored.model_dump(exclude_none=True) == {"resource_subscriptions": [uri]}
        with pytest.raises(MCPError) as refused:
            await streams.enter_async_context(client.listen(resource_subscriptions=[uri]))
    assert refused.value.error.code == RATE_LIMITED


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_an_older_client_that_subscribed_hears_of_every_change_of_status(tmp_path: Path) -> None:
    told = anyio.Event()
    heard: list[str] = []

    async def listen(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)
            told.set()

    order = {"image": str(picture(tmp_path, width=300, height=200)), "wait_seconds": 0}
    server = server_for(settings_for(tmp_path))
    async with Client(server, mode="legacy", message_handler=listen) as client:
        task = (await client.call_tool("outpaint", order)).structured_content
        uri = f"outpaint://tasks/{task['id']}"
        await client.subscribe_resource(uri)
        with anyio.fail_after(30):
            await told.wait()
        await client.unsubscribe_resource(uri)
        for nothing in ("outpaint://tasks/op-unknown", "outpaint://providers"):
            with pytest.raises(MCPError):
                await client.subscribe_resource(nothing)
    assert set(heard) == {uri}


async def test_a_change_that_another_process_makes_is_heard_too(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    source = picture(tmp_path, width=300, height=200)
    async with connected(settings) as drawing, connected(settings) as watching:
        task = (await drawing.call_tool("outpaint", {"image": str(source), "wait_seconds": 0})).structured_content
        uri = f"outpaint://tasks/{task['id']}"
        async with watching.listen(resource_subscriptions=[uri]) as events:
            await watching.list_tools()
            with anyio.fail_after(30):
                async for _ in events:
                    found = (await watching.call_tool("get_task", {"task_id": task["id"]})).structured_content
                    if found["status"] == "succeeded":
                        break


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_an_older_client_watches_an_unknown_task_on_that_another_process_still_polls(tmp_path: Path) -> None:
    heard = Heard()
    other = SqliteStore(tmp_path / "data" / "store.db", "other")
    made = record("order", owner="other")
    now = time.time()
    await other.claim(made, now=now, repeat=False, limits=DailyLimits(), count_orders=False)
    server = server_for(settings_for(tmp_path, data_dir=tmp_path / "data"))
    async with Client(server, mode="legacy", message_handler=heard) as client:
        await client.subscribe_resource(uri_of(made.task.id))
        for times, (status, due_at) in enumerate([(Status.UNKNOWN, now + 60), (Status.SUCCEEDED, None)], start=1):
            task = made.task.model_copy(update={"status": status})
            assert await other.save(replace(made, task=task, due_at=due_at))
            assert await heard.until(made.task.id, times) == [uri_of(made.task.id)] * times
    await other.aclose()


TASKS = {"op-1": Status.QUEUED, "op-2": Status.QUEUED, "op-done": Status.SUCCEEDED}
TASKS |= dict.fromkeys((f"op-many{number}" for number in range(WATCHED)), Status.QUEUED)


def server_of_tasks(events: TaskEvents) -> Server[None]:
    """A server whose service knows `TASKS` and nothing else."""

    async def get_task(task_id: str, *, client: str) -> Any:
        if task_id not in TASKS:
            raise UnknownTaskError("There is no such task.")
        return types.SimpleNamespace(status=TASKS[task_id])

    service: Any = types.SimpleNamespace(get_task=get_task)
    return build_server(LazyService(lambda: contextlib.nullcontext(service)), events=events)


def uri_of(task_id: str) -> str:
    return f"outpaint://tasks/{task_id}"


class Heard:
    """What an older client is told, in order."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._more = anyio.Event()

    async def __call__(self, message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            self.uris.append(message.params.uri)
            self._more.set()

    async def until(self, task_id: str, times: int = 1) -> list[str]:
        with anyio.fail_after(30):
            while self.uris.count(uri_of(task_id)) < times:
                self._more = anyio.Event()
                await self._more.wait()
        return self.uris


def publisher(events: TaskEvents) -> Callable[[str, Status], None]:
    return lambda task_id, status: events.publish(TaskEvent(task_id, "local", status, is_over=True))


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_an_older_client_that_unsubscribed_hears_no_more() -> None:
    events, heard = TaskEvents(), Heard()
    publish = publisher(events)
    async with Client(server_of_tasks(events), mode="legacy", message_handler=heard) as client:
        for task_id in ("op-1", "op-2"):
            await client.subscribe_resource(uri_of(task_id))
        await client.unsubscribe_resource(uri_of("op-1"))
        publish("op-1", Status.RUNNING)
        publish("op-2", Status.RUNNING)
        assert await heard.until("op-2") == [uri_of("op-2")]


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_an_older_client_that_subscribed_twice_hears_of_each_change_once() -> None:
    events, heard = TaskEvents(), Heard()
    publish = publisher(events)
    async with Client(server_of_tasks(events), mode="legacy", message_handler=heard) as client:
        for task_id in ("op-1", "op-1", "op-2"):
            await client.subscribe_resource(uri_of(task_id))
        publish("op-1", Status.RUNNING)
        publish("op-2", Status.RUNNING)
        assert await heard.until("op-2") == [uri_of("op-1"), uri_of("op-2")]


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_one_of_two_older_clients_unsubscribes_and_the_other_hears_all_the_same() -> None:
    events, heard, other_heard = TaskEvents(), Heard(), Heard()
    publish = publisher(events)
    server = server_of_tasks(events)
    async with (
        Client(server, mode="legacy", message_handler=heard) as client,
        Client(server, mode="legacy", message_handler=other_heard) as other,
    ):
        for one in (client, other):
            await one.subscribe_resource(uri_of("op-1"))
        await other.subscribe_resource(uri_of("op-2"))
        await other.unsubscribe_resource(uri_of("op-1"))
        publish("op-1", Status.RUNNING)
        publish("op-2", Status.RUNNING)
        assert await heard.until("op-1") == [uri_of("op-1")]
        assert await other_heard.until("op-2") == [uri_of("op-2")]


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
@pytest.mark.parametrize(
    ("task_id", "end"), [("op-1", Status.FAILED), ("op-1", Status.UNKNOWN), ("op-done", Status.SUCCEEDED)]
)
async def test_nothing_is_held_of_an_older_client_that_watches_a_task_that_is_done_or_no_longer_polled(
    task_id: str, end: Status
) -> None:
    events, heard = TaskEvents(), Heard()
    server = server_of_tasks(events)
    sessions: list[weakref.ref[ServerSession]] = []

    async def note(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "resources/subscribe":
            sessions.append(weakref.ref(ctx.session))
        return await call_next(ctx)

    server.middleware.append(note)
    async with Client(server, mode="legacy", message_handler=heard) as client:
        await client.subscribe_resource(uri_of(task_id))
        if not TASKS[task_id].is_final:
            publisher(events)(task_id, end)
            await heard.until(task_id)
        await client.list_tools()
        gc.collect()
        assert [session() for session in sessions] == [None]


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_an_older_client_watches_a_task_that_is_unknown_while_it_is_polled_and_so_many_tasks_at_once() -> None:
    events, heard = TaskEvents(), Heard()
    publish = publisher(events)
    async with Client(server_of_tasks(events), mode="legacy", message_handler=heard) as client:
        await client.subscribe_resource(uri_of("op-1"))
        for status, due_at in ((Status.UNKNOWN, 9e9), (Status.UNKNOWN, 9e9), (Status.RUNNING, 9e9)):
            events.publish(TaskEvent("op-1", "local", status, due_at))
        for number in range(WATCHED):
            await client.subscribe_resource(uri_of(f"op-many{number}"))
        publish("op-1", Status.UNKNOWN)
        publish("op-many0", Status.RUNNING)
        assert await heard.until("op-many0") == [uri_of("op-1")] * 2 + [uri_of("op-many0")]


async def test_a_client_that_does_not_read_holds_up_no_other() -> None:
    heard = anyio.Event()

    async def hear(uri: str) -> None:
        heard.set()

    async def stall(uri: str) -> None:
        await anyio.sleep_forever()

    async def get_task(task_id: str, *, client: str) -> Any:
        return types.SimpleNamespace(status=Status.QUEUED)

    events = TaskEvents()
    lazy = LazyService(lambda: contextlib.nullcontext(cast(Any, types.SimpleNamespace(get_task=get_task))))
    subscriptions = TaskSubscriptions(lazy, events, lambda: "local")
    async with lazy.running(), subscriptions.running():
        for send in (stall, hear):
            session = types.SimpleNamespace(client_params=object(), send_resource_updated=send)
            context: Any = types.SimpleNamespace(session=session)
            await subscriptions.subscribe(context, SubscribeRequestParams(uri=uri_of("op-1")))
        publisher(events)("op-1", Status.RUNNING)
        with anyio.fail_after(SEND_SECONDS / 2):
            await heard.wait()
