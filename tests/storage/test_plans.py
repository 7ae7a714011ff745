"""PostgreSQL finds due tasks by their index, however many are open."""

import psycopg
import pytest

from outpaint_mcp.storage.postgres import due

from .claim_many import NOW


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_open_tasks_that_are_not_due_are_not_read_to_find_those_that_are(database_url: str, mode: str) -> None:
    wanted = {"me": "one", "providers": ["counting"], "rooms": [64], "held": ["op-1", "op-2"], **due.times(NOW)}
    with psycopg.connect(database_url, autocommit=True) as connection:
        # Their tasks are not needed for it.
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO due (task_id, provider, due_at, answer, remote_id, step, asked_at, boot, until)"
            " SELECT md5(number::text), 'counting', %s - 30 + number * 0.003, md5(number::text), md5(number::text),"
            " 'outpaint', 0, 'boot', 0 FROM generate_series(-300, 9700) AS number",
            (NOW,),
        )
        connection.execute("ANALYZE due")
        # All due times move on; by what the planner knows, everything is due.
        connection.execute("UPDATE due SET due_at = due_at + 30")
        connection.execute(f"SET plan_cache_mode = {mode}".encode())
        plan = connection.execute(f"EXPLAIN (ANALYZE) {due.TAKE}".encode(), wanted, prepare=True).fetchall()
        found = "\n".join(line for (line,) in plan)
        assert "Index Scan using due_next" in found, found
        assert "Seq Scan" not in found, found
        (taken,) = connection.execute("SELECT COUNT(*) FROM due WHERE claim = 'one'").fetchone() or (0,)
    assert taken == 64
