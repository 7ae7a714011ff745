"""What workers do, as jobs of Procrastinate (https://procrastinate.readthedocs.io/), in tables of its own.

A job says no more than which task is to be gone on with. What there is to do stands in the task, and when it is to be
looked for again in its row of `due`: a job that is lost is found by that, and one that comes twice finds nothing to do.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import procrastinate
from procrastinate.exceptions import AlreadyEnqueued, ProcrastinateException
from procrastinate.schema import SchemaManager

from outpaint_mcp.domain.record import Job, JobKind
from outpaint_mcp.storage.postgres.database import CONNECTION, Connection
from outpaint_mcp.storage.postgres.records import STALLED_SECONDS

logger = logging.getLogger(__name__)

GO_ON: Final = "outpaint.go_on"
TIDY: Final = "outpaint.tidy"
CARE: Final = "care"
"""The queue of what has to be done whether or not anybody orders anything."""
CARE_PRIORITY: Final = 1000
TIDY_AT: Final = "17 */6 * * *"
HEARTBEAT_SECONDS: Final = 5.0
STOP_SECONDS: Final = 60.0
"""How long a worker that is asked to stop goes on with the jobs that it has begun."""
AGAIN_SECONDS: Final = 1.0
"""When a worker begins anew that ended because its database was away."""

Do = Callable[[str, JobKind], Awaitable[None]]


class Jobs:
    """The jobs in one database.

    Args:
        url: the database, as libpq's URI.
    """

    def __init__(self, url: str) -> None:
        # Connects when a worker runs, not before: jobs are handed over on the store's connections.
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=url, kwargs=CONNECTION, min_size=1, max_size=4)
        )

    async def hand_over(self, connection: Connection, task_id: str, job: Job) -> None:
        """Have a worker go on with a task, once the transaction of `connection` is committed.

        At most one job of a task waits to be begun.
        """
        options: Any = {
            "queue": job.kind.value,
            "priority": job.priority,
            "queueing_lock": task_id,
            "connection": connection,
        }
        try:
            async with connection.transaction():
                await self._app.configure_task(GO_ON, **options).defer_async(task_id=task_id, kind=job.kind.value)
        except AlreadyEnqueued:
            pass

    async def work(self, do: Do, tidy: Callable[[], Awaitable[None]], *, at_once: int) -> None:
        """See `Store.work`. It begins again whenever the database was away."""

        @self._app.task(name=GO_ON)
        async def go_on(task_id: str, kind: str) -> None:
            await do(task_id, JobKind(kind))

        @self._app.periodic(cron=TIDY_AT)
        @self._app.task(name=TIDY, queue=CARE, priority=CARE_PRIORITY, queueing_lock=TIDY)
        async def clean_up(timestamp: int) -> None:
            await tidy()

        async with self._app.open_async(), anyio.create_task_group() as tasks:
            tasks.start_soon(self._sweep)
            while True:
                await self._run(at_once)
                logger.warning("the worker begins anew, since its database was away")
                await anyio.sleep(AGAIN_SECONDS)

    async def _run(self, at_once: int) -> None:
        """Run a worker until it ends by itself; if this is cancelled, until it has finished what it has begun."""
        running = asyncio.ensure_future(
            self._app.run_worker_async(
                queues=[*JobKind, CARE],
                concurrency=at_once,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=HEARTBEAT_SECONDS,
                stalled_worker_timeout=STALLED_SECONDS,
                shutdown_graceful_timeout=STOP_SECONDS,
            )
        )
        try:
            await asyncio.wait([running])
        finally:
            # Cancelled once and waited for: that is how Procrastinate is asked to stop, and anyio would cancel it again
            # and again.
            with anyio.CancelScope(shield=True):
                running.cancel()
                await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()) is not None:
            logger.warning("the worker ended: %s", error)

    async def _sweep(self) -> None:
        """Give the jobs of workers that are gone to others."""
        manager = self._app.job_manager
        while True:
            try:
                for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
                    logger.warning(
                        "the worker of the job of %s is gone: it is done again", job.task_kwargs.get("task_id")
                    )
                    await manager.retry_job(job)
            except ProcrastinateException:
                # The worker itself says that the database is away.
                pass
            await anyio.sleep(HEARTBEAT_SECONDS)


async def upgrade(connection: Connection, applied: str | None) -> str:
    """Bring the tables of the jobs to the version of Procrastinate that is installed, in the connection's transaction.

    Args:
        connection: to the database.
        applied: the last step that was applied; None if there are no tables.

    Returns:
        The last step that is applied now.
    """
    steps = [step async for step in anyio.Path(SchemaManager.get_migrations_path()).glob("*.sql")]
    if applied is None:
        await connection.execute(SchemaManager.get_schema())
    else:
        for step in sorted(steps):
            if step.name > applied:
                await connection.execute(await step.read_bytes())
    return max(applied or "", *(step.name for step in steps))
