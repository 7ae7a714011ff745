"""Several servers on one PostgreSQL database, as real processes: whichever is asked, and whichever dies."""

import contextlib
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from outpaint_mcp.storage.postgres.seal import new_key

from ..postgres_server import PostgresServer
from ..preloading import Preloaded
from ..transports.processes import (
    HttpServer,
    Start,
    Vendors,
    an_order,
    called,
    http_server,
    open_vendors,
    until,
    variables,
)

ORDERS = 8
FINAL = ("succeeded", "failed", "cancelled", "unknown")


class Replicas:
    """Servers that share a database, each started anew when it is killed."""

    def __init__(self, start: Start, environment: dict[str, str]) -> None:
        self._start = start
        self._environment = environment
        self.servers: dict[int, HttpServer] = {}

    async def run(self, number: int) -> None:
        while True:
            async with http_server(self._environment, start=self._start) as server:
                self.servers[number] = server
                await server.ended.wait()
            del self.servers[number]

    async def server(self, number: int) -> HttpServer:
        await until(lambda: number in self.servers, 90)
        return self.servers[number]

    async def call(self, number: int, tool: str, **arguments: Any) -> dict[str, Any]:
        server = await self.server(number)
        async with server.client() as client:
            return await called(client, tool, **arguments)


@contextlib.asynccontextmanager
async def replicas(
    start: Start, folder: Path, vendors: Vendors, database_url: str, count: int, **more: str
) -> AsyncIterator[Replicas]:
    environment = variables(
        folder,
        vendors,
        OUTPAINT_DATABASE_URL=database_url,
        OUTPAINT_SEAL_KEY=new_key(),
        OUTPAINT_LOG_LEVEL="INFO",
        **more,
    )
    running = Replicas(start, environment)
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(running.run, number)
        for number in range(count):
            await running.server(number)
        yield running
        tasks.cancel_scope.cancel()


async def test_a_client_orders_at_one_server_waits_at_a_second_and_reads_the_image_at_a_third(
    tmp_path: Path, preloaded: Preloaded, database_url: str
) -> None:
    # Each but the first would poll long after the test.
    async with open_vendors() as vendors, replicas(preloaded, tmp_path, vendors, database_url, 3) as servers:
        order = an_order()
        task = await servers.call(0, "outpaint", **order, wait_seconds=0)
        again = await servers.call(1, "outpaint", **order, wait_seconds=0)
        assert again["id"] == task["id"]
        assert len(vendors.orders(order["prompt"])) == 1
        waited: list[dict[str, Any]] = []

        async def wait() -> None:
            waited.append(await servers.call(1, "get_task", task_id=task["id"], wait_seconds=30))

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await anyio.sleep(0.3)
            vendors.finish()
        assert waited[0]["status"] == "succeeded"
        third = await servers.server(2)
        async with third.client() as client:
            (read,) = (await client.read_resource(f"outpaint://tasks/{task['id']}/images/1")).contents
        assert read.mime_type == "image/png"


async def test_whichever_server_dies_and_though_the_database_restarts_each_order_is_placed_once_and_answered(
    tmp_path: Path, preloaded: Preloaded, database_url: str, postgres_server: PostgresServer
) -> None:
    chance = random.Random(7)  # noqa: S311 (a schedule)
    async with (
        open_vendors() as vendors,
        replicas(preloaded, tmp_path, vendors, database_url, 2, OUTPAINT_MAX_ORDERS_PER_DAY=str(2 * ORDERS)) as servers,
    ):
        orders = [an_order(grid=number % 2 == 0) for number in range(ORDERS)]
        answered: list[dict[str, Any]] = []

        async def ask(order: dict[str, Any]) -> None:
            """As a client does: the same call again, at whichever server, until the task is final."""
            while True:
                with contextlib.suppress(Exception), anyio.move_on_after(10):
                    told = await servers.call(chance.randrange(2), "outpaint", **order, wait_seconds=2)
                    if told["status"] in FINAL:
                        answered.append(told)
                        return
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as clients:
            for order in orders:
                clients.start_soon(ask, order)
            for number in (0, 1, 0):
                await anyio.sleep(chance.uniform(0.5, 1.5))
                (await servers.server(number)).signal(signal.SIGKILL)
                vendors.finish()
                if number:
                    postgres_server.stop()
                    await anyio.sleep(0.5)
                    postgres_server.start()
            while len(answered) < ORDERS:
                vendors.finish()
                await anyio.sleep(0.2)
        for order in orders:
            assert len(vendors.orders(order["prompt"])) <= 1
        sent = sum(len(vendors.orders(order["prompt"])) for order in orders)
        assert (
            sum(task["status"] == "succeeded" for task in answered)
            + sum(task["status"] == "unknown" for task in answered)
            >= sent
        )
        assert len({task["id"] for task in answered}) == ORDERS
