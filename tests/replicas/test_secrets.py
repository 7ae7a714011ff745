"""What only the program may read crosses processes sealed, and an order is sent whole by whoever comes to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import anyio
import psycopg
import pytest

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import CLAIM_SECONDS, Record, Secrets
from outpaint_mcp.domain.request import OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.postgres.seal import Seal, new_key
from outpaint_mcp.storage.postgres.store import PostgresStore
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

from ..counting import GRID, CountingProvider, MovedClock, UpscalingProvider, service_over, take_due
from ..storage.claim_many import SEAL_KEY
from ..transports.processes import until

WEBHOOK = Webhook("https://example.com/hook?token=planted-query", "planted-secret")


class ThatDies(PostgresStore):
    """The store of a process that dies before it sends."""

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        await anyio.sleep_forever()
        raise AssertionError

    async def save(self, record: Record, *, durable: bool = True, force: bool = False, go_on: bool = False) -> bool:
        raise AssertionError("it is dead")

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.close()


@asynccontextmanager
async def dying(folder: Path, vendor: CountingProvider, clock: MovedClock, url: str) -> AsyncIterator[Service]:
    service = service_over(folder, vendor, clock=clock, store=ThatDies(url, "dying", Seal(SEAL_KEY)))
    async with service.running():
        yield service
        for flight in service._ledger.flights().values():
            flight.placing = None


async def advance_all(service: Service) -> None:
    for due in (await take_due(service)).tasks:
        await service.due_tasks.advance(due)


async def test_an_order_is_sent_whole_by_another_process_if_the_first_dies_before_it_is_sent(
    tmp_path: Path, database_url: str
) -> None:
    vendor, clock = UpscalingProvider(), MovedClock()
    request = OutpaintRequest(task_id=GRID, image_index=1, zoom=1.5, provider="counting", webhook=WEBHOOK)
    async with dying(tmp_path, vendor, clock, database_url) as first:
        task = await first.outpaint(request, wait_seconds=0, at_least=0.1)
        assert (task.status, vendor.orders) == (Status.QUEUED, [])
    with psycopg.connect(database_url) as connection:
        everything = "".join(
            str(row) for table in ("tasks", "orders", "due") for row in connection.execute(f"TABLE {table}")
        )
    assert task.id in everything
    assert "planted" not in everything
    second = service_over(tmp_path, vendor, clock=clock, store=PostgresStore(database_url, "second", Seal(SEAL_KEY)))
    async with second.running():
        assert task.id not in (await take_due(second)).ids, "the first may be alive"
        clock._now += CLAIM_SECONDS + 1
        await advance_all(second)
        assert [order.webhook for order in vendor.orders] == [None], "the upscale is only a step"
        vendor.finish("r-0")
        for _ in range(2):
            clock._now += 30
            await advance_all(second)
        assert [order.webhook for order in vendor.orders] == [None, WEBHOOK]
        vendor.finish("r-1")
        clock._now += 30
        await advance_all(second)
        assert (await second.get_task(task.id)).status is Status.SUCCEEDED
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT sealed FROM tasks WHERE id = %s", (task.id,)).fetchone() == (None,)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_server_lets_go_of_what_it_holds_of_an_order_that_another_process_has_brought_to_its_end(
    tmp_path: Path, database_url: str, is_told: bool
) -> None:
    vendor, clock = UpscalingProvider(), MovedClock()
    request = OutpaintRequest(task_id=GRID, image_index=1, zoom=1.5, provider="counting", webhook=WEBHOOK)
    first, second = (
        service_over(tmp_path, vendor, clock=clock, store=PostgresStore(database_url, name, Seal(SEAL_KEY)))
        for name in ("first", "second")
    )
    listening = Scheduler(first, first.events, polls=False).running() if is_told else nullcontext()
    async with first.running(), second.running(), listening:
        task = await first.outpaint(request, wait_seconds=0, at_least=5)
        vendor.finish("r-0")
        for _ in range(2):
            clock._now += 30
            await advance_all(second)
        assert [order.webhook for order in vendor.orders] == [None, WEBHOOK]
        await first.due_tasks.forget_over()
        assert first._ledger.flights().keys() == {task.id}, "it is not over"
        vendor.finish("r-1")
        clock._now += 30
        await advance_all(second)
        assert (await second.get_task(task.id)).status is Status.SUCCEEDED
        if is_told:
            await until(lambda: not first._ledger.flights(), 10)
        else:
            await first.due_tasks.forget_over()
        assert not first._ledger.flights()
        assert not second._ledger.flights()


def test_what_is_sealed_opens_with_any_of_the_keys_for_its_own_task_only() -> None:
    old, new = new_key(), new_key()
    kept = Secrets(Webhook("https://example.com/?a=b", "s", ("completed",)), "https://example.com/a.png?sig=1")
    sealed = Seal(old).seal("op-1", kept)
    assert sealed is not None
    assert b"example" not in sealed
    assert Seal(f"{new}, {old}").open("op-1", sealed) == kept
    assert Seal(new).open("op-1", sealed) is None
    assert Seal(old).open("op-2", sealed) is None
    assert Seal(old).seal("op-1", None) is None


@pytest.mark.parametrize("key", ["", "short", "c2hvcnQ=", f"{SEAL_KEY},"])
def test_what_is_no_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigurationError, match="db key") as refused:
        Seal(key)
    assert not key or key not in str(refused.value)
