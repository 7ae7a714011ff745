"""`<NAME>_MAX_IN_FLIGHT`: more orders than may run at a provider wait for their turn."""

from pathlib import Path
from typing import Any

from outpaint_mcp.domain.request import OutpaintRequest, Webhook
from outpaint_mcp.domain.task import Status
from outpaint_mcp.tasks.sending import WAITING_NOTE
from outpaint_mcp.tasks.service import Service

from ..counting import SINGLE, CountingProvider, MovedClock, running, service_over

WEBHOOK = Webhook("https://example.com/hook")


def order(number: int, **more: Any) -> OutpaintRequest:
    return OutpaintRequest(task_id=SINGLE, zoom=1.5, prompt=f"number {number}", provider="counting", **more)


async def statuses(service: Service, ids: list[str]) -> list[Status]:
    return [(await service.get_task(task_id)).status for task_id in ids]


async def test_an_order_waits_until_another_one_is_final_and_is_sent_with_all_that_it_came_with(tmp_path: Path) -> None:
    vendor, clock = CountingProvider(), MovedClock()
    service = service_over(tmp_path, vendor, clock=clock, max_in_flight={"counting": 2}, task_timeout=600)
    async with running(service, clock):
        tasks = []
        for number in range(4):
            tasks.append(await service.outpaint(order(number, webhook=WEBHOOK)))
            await clock.move(1)
        ids = [task.id for task in tasks]
        assert len(vendor.orders) == 2
        assert [WAITING_NOTE in task.notes for task in tasks] == [False, False, True, True]
        assert (await service.figures()).waiting == {"counting": 2}
        clock._now += 100
        assert (await service.figures()).overdue["counting"] > 85
        clock._now -= 100
        again = await service.outpaint(order(3, webhook=WEBHOOK))
        assert (again.id, len(vendor.orders)) == (ids[3], 2)
        # Longer than a task may take, and than what was never sent waits for the same call.
        await clock.move(500)
        vendor.finish("r-0")
        await clock.move(30)
        assert [sent.prompt for sent in vendor.orders] == ["number 0", "number 1", "number 2"]
        vendor.set("r-1", Status.FAILED)
        await clock.move(400)
        assert [sent.prompt for sent in vendor.orders][3:] == ["number 3"]
        assert all(sent.webhook == WEBHOOK for sent in vendor.orders)
        assert await statuses(service, ids) == [Status.SUCCEEDED, Status.FAILED, Status.QUEUED, Status.QUEUED]
        assert WAITING_NOTE not in (await service.get_task(ids[2])).notes
        vendor.finish("r-2")
        vendor.finish("r-3")
        await clock.move(60)
        assert await statuses(service, ids[2:]) == [Status.SUCCEEDED, Status.SUCCEEDED]


async def test_what_waits_for_its_turn_is_sent_after_a_restart(tmp_path: Path) -> None:
    vendor, clock = CountingProvider(), MovedClock()
    async with running(service_over(tmp_path, vendor, clock=clock, max_in_flight={"counting": 1}), clock) as service:
        ids = [(await service.outpaint(order(number))).id for number in range(2)]
        assert len(vendor.orders) == 1
    service = service_over(tmp_path, vendor, clock=clock, owner="two", max_in_flight={"counting": 1})
    async with running(service, clock):
        await clock.move(60)
        assert len(vendor.orders) == 1
        vendor.finish("r-0")
        await clock.move(60)
        assert len(vendor.orders) == 2
        vendor.finish("r-1")
        await clock.move(60)
        assert await statuses(service, ids) == [Status.SUCCEEDED, Status.SUCCEEDED]


async def test_other_providers_are_not_limited(tmp_path: Path) -> None:
    vendor, clock = CountingProvider(), MovedClock()
    async with running(service_over(tmp_path, vendor, clock=clock, max_in_flight={"another": 1}), clock) as service:
        for number in range(3):
            await service.outpaint(order(number))
        assert len(vendor.orders) == 3
