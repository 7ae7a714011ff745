"""What is old is deleted, and nothing that an order or a limit still depends on."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.storage.sqlite.store import SqliteStore

from ..counting import START, CountingProvider, MovedClock, service_over
from ..serving import picture, settings_for
from ..storage.claim_many import record

DAY = 86_400.0


async def put(store: SqliteStore, name: str, status: Status, days_ago: float, *, identity: str | None = None) -> str:
    """A task that was ordered, and ended if its status is final, so many days ago."""
    at = datetime.fromtimestamp(START - days_ago * DAY, UTC)
    made = replace(record(name, owner="one"), identity=identity or name)
    task = made.task.model_copy(update={"created_at": at})
    claimed, _ = await store.claim(
        replace(made, task=task), now=at.timestamp(), repeat=True, limits=DailyLimits(), count_orders=True
    )
    ended = {"status": status, "finished_at": at if status.is_final else None}
    open_ = status in (Status.QUEUED, Status.RUNNING)
    due_at = claimed.due_at if open_ else None
    assert await store.save(replace(claimed, task=claimed.task.model_copy(update=ended), due_at=due_at))
    return made.task.id


@pytest.mark.parametrize("days", [0, 1, 365])
async def test_final_tasks_are_deleted_after_their_time_and_no_others(tmp_path: Path, days: float) -> None:
    clock, store = MovedClock(), SqliteStore(tmp_path / "store.db", "one")
    old = [
        await put(store, f"{status}{number}", status, days_ago=max(days, 1) + 0.1)
        for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
        for number in range(80)
    ]
    kept = [await put(store, f"old-{one}", one, days_ago=900) for one in (Status.QUEUED, Status.RUNNING)]
    kept.append(await put(store, "unknown", Status.UNKNOWN, days_ago=900))
    # Without it the unknown one would answer for the same order again.
    kept.append(await put(store, "anew", Status.SUCCEEDED, days_ago=899, identity="unknown"))
    kept.append(await put(store, "young", Status.SUCCEEDED, days_ago=max(days, 1) - 0.1))
    service = service_over(tmp_path, CountingProvider(), store=store, clock=clock, keep_tasks_days=days)
    async with service.running():
        await service.tidy()
        there = {task_id for task_id in [*old, *kept] if await store.get(task_id) is not None}
        figures = await service.figures()
    assert there == {*kept, *(() if days else old)}
    assert sum(figures.tasks.values()) == sum(figures.orders.values()) == len(there)


def test_tasks_that_still_count_cannot_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        settings_for(tmp_path, keep_tasks_days=0.5)


async def test_a_jobs_files_go_with_its_images(tmp_path: Path) -> None:
    request = OutpaintRequest(image=str(picture(tmp_path)), zoom=1.5)
    jobs = tmp_path / "data" / "jobs"
    async with open_service(settings_for(tmp_path)) as service:
        assert (await service.outpaint(request, wait_seconds=60)).status is Status.SUCCEEDED
        await service.tidy()
        assert len(list(jobs.iterdir())) == 2
    async with open_service(settings_for(tmp_path, keep_images_gb=1e-9)) as service:
        await service.tidy()
        assert list(jobs.iterdir()) == []
        assert len(await service.recent()) == 1, "the task itself stays"
