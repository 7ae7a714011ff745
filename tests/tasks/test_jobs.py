"""What is handed over to workers: who may do it, in which turn, and that none of it is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from outpaint_mcp.domain.errors import RateLimitedError
from outpaint_mcp.domain.record import CLAIM_SECONDS, JobKind
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status, Task
from outpaint_mcp.storage.postgres.jobs import Jobs
from outpaint_mcp.tasks.jobs import LOST_SECONDS
from outpaint_mcp.tasks.service import Service

from ..counting import SINGLE, IdempotentProvider, MovedClock, service_over, take_due
from ..storage.claim_many import open_store


class DrawingProvider(IdempotentProvider):
    """An engine whose orders only the process that sent them can ask for."""

    holds_orders = True
    costs_money = False
    first_poll = poll_interval = 0.5


@asynccontextmanager
async def running(
    folder: Path, vendor: IdempotentProvider, clock: MovedClock, url: str, name: str, **options: Any
) -> AsyncIterator[Service]:
    service = service_over(folder / name, vendor, clock=clock, store=open_store(url, name), workers=True, **options)
    async with service.running():
        yield service


async def ordered(service: Service, prompt: str = "", *, client: str = "local", parent: str = SINGLE) -> Task:
    request = OutpaintRequest(task_id=parent, zoom=1.5, provider="counting", prompt=prompt or None)
    return await service.outpaint(request, client=client)


NO_JOBS = {(kind.value, status): 0 for kind in JobKind for status in ("todo", "doing")}


def jobs(url: str) -> list[tuple[str, str]]:
    """Those that wait of tasks that were ordered here, in the turn in which they come: kind and task."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT queue_name, task.id FROM procrastinate_jobs AS job JOIN tasks AS task ON args->>'task_id' = task.id"
            " WHERE job.status = 'todo' AND plan <> '{}' ORDER BY priority DESC, job.id"
        )
        return [(str(kind), str(task_id)) for kind, task_id in found]


def forget_jobs(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM procrastinate_jobs")


async def poll(service: Service) -> None:
    """As a worker that polls does."""
    for due in (await take_due(service)).tasks:
        await service.due_tasks.advance(due)


async def work(service: Service, clock: MovedClock, task: Task, kind: JobKind = JobKind.DRAW) -> None:
    """As a worker does whose job this is, until it is done or waits."""
    async with anyio.create_task_group() as tasks:

        async def done() -> None:
            await service._lifecycle.work(task.id, kind)
            tasks.cancel_scope.cancel()

        tasks.start_soon(done)
        for _ in range(20):
            await anyio.sleep(0.02)
            await clock.move(0.5)


async def test_a_drawing_is_the_job_of_a_worker_who_sends_it_and_follows_it_to_its_end(
    tmp_path: Path, database_url: str
) -> None:
    vendor, clock = DrawingProvider(), MovedClock()
    async with (
        running(tmp_path, vendor, clock, database_url, "server") as server,
        running(tmp_path, vendor, clock, database_url, "worker") as worker,
    ):
        task = await ordered(server)
        assert (task.status, vendor.orders) == (Status.QUEUED, [])
        assert jobs(database_url) == [("draw", task.id)]
        again = await ordered(server)
        assert (again.id, len(jobs(database_url))) == (task.id, 1)
        vendor.after_start = lambda order: vendor.finish("r-0")
        await work(worker, clock, task)
        assert len(vendor.orders) == 1
        assert (await server.get_task(task.id)).status is Status.SUCCEEDED
        await work(worker, clock, task)
        assert len(vendor.orders) == 1, "a job that comes twice finds nothing to do"


async def test_what_a_vendor_has_finished_is_copied_by_a_worker_who_asks_the_vendor_again(
    tmp_path: Path, database_url: str
) -> None:
    vendor, clock = IdempotentProvider(), MovedClock()
    async with (
        running(tmp_path, vendor, clock, database_url, "server") as server,
        running(tmp_path, vendor, clock, database_url, "worker") as worker,
    ):
        task = await ordered(server)
        assert len(vendor.orders) == 1, "a server sends orders"
        vendor.finish("r-0")
        clock._now += 20
        await poll(worker)
        assert [kind for kind, *_ in jobs(database_url)] == ["copy"]
        assert (await server.get_task(task.id)).status is Status.RUNNING
        await work(worker, clock, task, JobKind.COPY)
        found = await server.get_task(task.id)
        assert (found.status, len(vendor.orders)) == (Status.SUCCEEDED, 1)
        assert any("could not be copied" in note for note in found.notes), "nothing listens where its images are"
        forget_jobs(database_url)
        clock._now += 90
        await poll(worker)
        assert [kind for kind, *_ in jobs(database_url)] == ["copy"], "it is tried again"


async def test_a_job_that_is_lost_is_found_by_the_tasks_due_time_and_one_that_waits_is_not_doubled(
    tmp_path: Path, database_url: str
) -> None:
    vendor, clock = DrawingProvider(), MovedClock()
    async with running(tmp_path, vendor, clock, database_url, "one") as service:
        task = await ordered(service)
        for _ in range(2):
            clock._now += LOST_SECONDS + 1
            await poll(service)
            assert [task_id for _, task_id in jobs(database_url)] == [task.id]
        forget_jobs(database_url)
        clock._now += LOST_SECONDS + 1
        await poll(service)
        assert [task_id for _, task_id in jobs(database_url)] == [task.id]
        assert vendor.orders == []


async def test_clients_take_turns_and_none_may_have_any_number_of_drawings(tmp_path: Path, database_url: str) -> None:
    vendor, clock = DrawingProvider(), MovedClock()
    async with running(tmp_path, vendor, clock, database_url, "one", max_waiting=3) as service:
        many = [await ordered(service, f"{number}", client="many") for number in range(3)]
        few = await ordered(service, client="few", parent="single-2")
        assert [task_id for _, task_id in jobs(database_url)] == [many[0].id, few.id, many[1].id, many[2].id]
        with pytest.raises(RateLimitedError, match="3 drawings of yours are waiting"):
            await ordered(service, "more", client="many")
        assert len(jobs(database_url)) == 4
        await ordered(service, "another", client="few", parent="single-2")


async def test_a_drawing_whose_worker_died_is_drawn_by_another(tmp_path: Path, database_url: str) -> None:
    dead, alive, clock = DrawingProvider(), DrawingProvider(), MovedClock()
    async with running(tmp_path, alive, clock, database_url, "alive") as other:
        async with running(tmp_path, dead, clock, database_url, "dead") as first:
            task = await ordered(first)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first._lifecycle.work, task.id, JobKind.DRAW)
                await clock.until_asleep()
                assert dead.orders
                tasks.cancel_scope.cancel()
            forget_jobs(database_url)
            clock._now += 2
            await poll(other)
            assert jobs(database_url) == [], "its worker may only be slow"
            clock._now += CLAIM_SECONDS + 8
            await poll(other)
            assert [task_id for _, task_id in jobs(database_url)] == [task.id]
            alive.after_start = lambda order: alive.finish("r-0")
            await work(other, clock, task)
            assert (await other.get_task(task.id)).status is Status.SUCCEEDED
        assert [order.key for order in alive.orders] == [order.key for order in dead.orders]


async def test_the_jobs_of_a_worker_that_is_gone_are_counted_and_given_to_another(
    tmp_path: Path, database_url: str
) -> None:
    vendor, clock = DrawingProvider(), MovedClock()
    async with running(tmp_path, vendor, clock, database_url, "one") as service:
        task = await ordered(service)
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "WITH gone AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 minute')"
                " RETURNING id) UPDATE procrastinate_jobs SET status = 'doing', worker_id = gone.id FROM gone"
            )
        figures = await service.figures()
        assert (figures.jobs, figures.stalled) == ({**NO_JOBS, ("draw", "doing"): 1}, 1)
        done = anyio.Event()
        did: list[tuple[str, JobKind]] = []

        async def do(task_id: str, kind: JobKind) -> None:
            did.append((task_id, kind))
            done.set()

        async def tidy() -> None:
            pass

        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                await Jobs(database_url).work(do, tidy, at_once=1)

            tasks.start_soon(work)
            with anyio.fail_after(20):
                await done.wait()
            tasks.cancel_scope.cancel()
        assert did == [(task.id, JobKind.DRAW)]
        assert (await service.figures()).jobs == NO_JOBS
