"""Places one order in a process of its own and follows it to the end; dies at the boundary that it is told.

A boundary is the moment before or after one of the things that an order goes through. Arguments: the data folder, the
sandbox's base URL, the zoom, the boundary to die at (its name, dying when it is first passed; or its number; 0: none),
the vendor if it is not apimart, the URL of an own image in place of the sandbox's grid ("": none), by how many seconds
the clock is ahead at the start, and by how many from the third boundary on.
Prints each boundary as it is passed, and in the end the task as JSON, or ``{"refused": code}``.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from outpaint_mcp.domain.clock import SystemClock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status, StoredImage, TaskUpdate
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.vtrix import Vtrix
from outpaint_mcp.sandbox import environment, seed_id
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service


class Boundaries:
    def __init__(self, die_at: str, clock: "SetClock", ahead: float) -> None:
        self._die_at = die_at
        self._passed = 0
        self._clock = clock
        self._ahead = ahead

    def cross(self, name: str) -> None:
        self._passed += 1
        if self._passed == 3:
            self._clock.ahead = self._ahead
        sys.stdout.write(f"{self._passed} {name}\n")
        sys.stdout.flush()
        if self._die_at in (name, str(self._passed)):
            os.kill(os.getpid(), signal.SIGKILL)


class SetClock(SystemClock):
    """The machine's clock as somebody has set it."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def now(self) -> float:
        return super().now() + self.ahead


class MortalStore(Store):
    boundaries: Boundaries

    async def claim(self, record: Record, **rest: Any) -> tuple[Record, bool]:
        self.boundaries.cross("before claim")
        found = await super().claim(record, **rest)
        self.boundaries.cross("after claim")
        return found

    async def mark_sent(self, task_id: str, position: int, *, now: float) -> bool:
        self.boundaries.cross(f"before mark_sent {position}")
        marked = await super().mark_sent(task_id, position, now=now)
        self.boundaries.cross(f"after mark_sent {position}")
        return marked

    async def save(self, record: Record, **rest: Any) -> bool:
        self.boundaries.cross(f"before save {record.task.status.value}")
        saved = await super().save(record, **rest)
        self.boundaries.cross(f"after save {record.task.status.value}")
        return saved


class Mortal(HttpProvider):
    """A vendor's adapter that may not live to tell the answer."""

    boundaries: Boundaries

    async def start(self, order: Order) -> TaskUpdate:
        self.boundaries.cross(f"before start {order.step.value}")
        update = await super().start(order)
        self.boundaries.cross(f"after start {order.step.value}")
        return update

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        self.boundaries.cross("before poll")
        update = await super().poll(remote_id, reference)
        self.boundaries.cross(f"after poll {update.status.value}")
        return update


class MortalApimart(Mortal, Apimart):
    pass


class MortalApiframe(Mortal, Apiframe):
    pass


class MortalVtrix(Mortal, Vtrix):
    pass


VENDORS: dict[str, type[Mortal]] = {"apimart": MortalApimart, "apiframe": MortalApiframe, "vtrix": MortalVtrix}
PRICE = 0.05
LIMITS = DailyLimits(usd=5 * PRICE, orders=5)


class MortalPictures(ImageLibrary):
    boundaries: Boundaries

    async def keep(self, url: str, *, client: str = "") -> StoredImage:
        self.boundaries.cross("before keep")
        kept = await super().keep(url, client=client)
        self.boundaries.cross("after keep")
        return kept


async def main(
    folder: Path,
    base_url: str,
    zoom: float,
    die_at: str,
    name: str,
    image: str,
    ahead: float,
    later: float,
) -> None:
    clock = SetClock(ahead)
    boundaries = Boundaries(die_at, clock, later)
    MortalStore.boundaries = Mortal.boundaries = MortalPictures.boundaries = boundaries
    variables = environment(base_url)
    async with HttpClient() as client:
        key, url = variables[f"{name.upper()}_API_KEY"], variables[f"{name.upper()}_BASE_URL"]
        service = Service(
            store=MortalStore(folder / "store.db", f"{os.getpid()}-{random.random()}"),  # noqa: S311 (a name)
            images=MortalPictures(folder, roots=(folder,), allow_private=True),
            providers={name: VENDORS[name](client, key=key, base_url=url)},
            options=ServiceOptions(auto=(name,), poll=(0.05, 0.05), daily_limits=LIMITS, prices={name: PRICE}),
            clock=clock,
        )
        async with service.running(), Scheduler(service, service.events, clock=clock).running():
            order = OutpaintRequest(task_id=seed_id(name, grid=True), provider=name, image_index=2, zoom=zoom)
            if image:
                order = OutpaintRequest(image=image, provider=name, zoom=zoom, prompt="a lake")
            try:
                task = await service.outpaint(order)
                with anyio.move_on_after(40):
                    while task.status in (Status.QUEUED, Status.RUNNING):
                        task = await service.get_task(task.id, wait_seconds=5)
                told = task.model_dump_json()
            except OutpaintError as error:
                told = json.dumps({"refused": error.code})
    sys.stdout.write(told + "\n")


if __name__ == "__main__":
    folder, base_url, zoom, die_at, *rest = sys.argv[1:]
    vendor, image, ahead, later = (*rest, *("apimart", "", "0", "0")[len(rest) :])
    anyio.run(main, Path(folder), base_url, float(zoom), die_at, vendor, image, float(ahead), float(later))
