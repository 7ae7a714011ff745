"""What money hangs on is in the database's log before the next thing happens: a crash loses none of it."""

from dataclasses import replace

from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.record import OrderState, Record
from outpaint_mcp.storage.store import Store

from ..postgres_server import PostgresServer
from ..storage.claim_many import NOW, open_store, record


async def read(url: str, task_id: str) -> Record:
    """The task as the database has it after a crash."""
    store: Store = open_store(url, "reader")
    found = await store.get(task_id)
    await store.aclose()
    assert found is not None
    return found


async def test_a_crash_of_the_database_forgets_no_intent_no_mark_and_no_answer(
    database_url: str, postgres_server: PostgresServer
) -> None:
    store = open_store(database_url, "one")
    made, _ = await store.claim(
        record("a", owner="one"), now=NOW, repeat=False, limits=DailyLimits(), count_orders=True
    )
    postgres_server.crash()
    assert (await read(database_url, made.task.id)).steps[0].reserved
    assert await store.mark_sent(made.task.id, 0, now=NOW)
    postgres_server.crash()
    assert (await read(database_url, made.task.id)).steps[0].state is OrderState.SENT
    step = replace(made.steps[0], state=OrderState.ACCEPTED, remote_id="r-1")
    assert await store.save(replace(made, steps=(step,)))
    postgres_server.crash()
    assert (await read(database_url, made.task.id)).steps[0].remote_id == "r-1"
    await store.aclose()
