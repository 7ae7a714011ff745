"""Places orders, each in a process of its own, and follows each to its end; dies at the boundary that it is told.

A boundary is the moment before or after one of the things that an order goes through. Listens at the Unix socket that
is its argument, and forks for each connection, so that all is imported once. A line of JSON comes in, the arguments of
`place`. Each boundary goes out as it is passed, and in the end the task as JSON, or ``{"refused": code}``, or
``{"broke": traceback}``; nothing more from a process that was killed.
"""

import gc
import json
import os
import secrets
import signal
import socket
import sqlite3 as sqlite3
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import ResultImage, Status, StoredImage, TaskUpdate
from outpaint_mcp.images import decode as decode
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.self_hosted import Tools, build_vendor
from outpaint_mcp.storage.postgres.seal import Seal
from outpaint_mcp.storage.postgres.store import PostgresStore
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

sys.path.append(str(Path(__file__).resolve().parents[2]))  # it is run as a file
from tests.decoding import LibraryInThisProcess
from tests.providers.canvases import PlainCanvases
from tests.storage.claim_many import SEAL_KEY


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


if TYPE_CHECKING:
    Money = SqliteStore
else:
    Money = object


class MortalMoney(Money):
    """The boundaries of a store; before the store among its bases."""

    boundaries: Boundaries
    pause: float

    async def claim(self, record: Record, **rest: Any) -> tuple[Record, bool]:
        self.boundaries.cross("before claim")
        found = await super().claim(record, **rest)
        self.boundaries.cross("after claim")
        await anyio.sleep(self.pause)
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


class MortalFile(MortalMoney, SqliteStore):
    pass


class MortalDatabase(MortalMoney, PostgresStore):  # type: ignore[misc]
    pass


def open_mortal(place: str) -> tuple[MortalFile | MortalDatabase, Clock | None]:
    """The store in a file or in the database of a URL, and the clock that goes with it if it has one."""
    owner = f"{os.getpid()}-{secrets.token_hex(4)}"
    if "://" not in place:
        return MortalFile(Path(place), owner), None
    database: Any = MortalDatabase
    store = database(place, owner, Seal(SEAL_KEY))
    return store, store.clock


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


VENDORS: dict[str, type[Mortal]] = {
    name: type(f"Mortal{one.__name__}", (Mortal, one), {})
    for name, one in provider_classes().items()
    if issubclass(one, HttpProvider)
}
PRICE = 0.05
LIMITS = DailyLimits(usd=5 * PRICE, orders=5)


class MortalPictures(LibraryInThisProcess):
    boundaries: Boundaries

    async def keep(self, url: str, *, client: str = "") -> StoredImage:
        self.boundaries.cross("before keep")
        kept = await super().keep(url, client=client)
        self.boundaries.cross("after keep")
        return kept

    async def keep_answer(self, data: bytes, client: str) -> ResultImage:
        self.boundaries.cross("before keep_answer")
        kept = await super().keep_answer(data, client)
        self.boundaries.cross("after keep_answer")
        return kept


async def place(
    *,
    folder: str,
    store: str,
    vendor: str,
    key: str,
    url: str,
    task_id: str,
    image: str,
    die_at: str,
    clock: tuple[float, float],
    pause: float,
) -> None:
    """Place one order.

    Args:
        folder: the data folder.
        store: the store's file, or its database's URL.
        vendor: its name.
        key: for its API.
        url: where its API is.
        task_id: the grid to extend.
        image: an own image to extend in its place, unless it is empty.
        die_at: the boundary to die at: its name, dying when it is first passed, or its number; "0": none.
        clock: by how many seconds the clock is ahead at the start, and from the third boundary on.
        pause: how many seconds it waits after it has claimed the order.
    """
    set_clock = SetClock(clock[0])
    boundaries = Boundaries(die_at, set_clock, clock[1])
    MortalMoney.pause = pause
    MortalMoney.boundaries = Mortal.boundaries = MortalPictures.boundaries = boundaries
    data = Path(folder)
    opened, its_clock = open_mortal(store)
    service_clock = its_clock or set_clock
    images = MortalPictures(data, roots=(data,), allow_private=True)
    async with HttpClient() as client:
        tools = Tools(client, images.keep_answer, PlainCanvases())
        service = Service(
            store=opened,
            images=images,
            providers={vendor: build_vendor(VENDORS[vendor], tools, key=key or None, base_url=url)},
            options=ServiceOptions(auto=(vendor,), poll=(0.05, 0.05), daily_limits=LIMITS, prices={vendor: PRICE}),
            clock=service_clock,
        )
        async with service.running(), Scheduler(service, service.events, clock=service_clock).running():
            order = OutpaintRequest(task_id=task_id, provider=vendor, image_index=2, zoom=1.5)
            if image:
                order = OutpaintRequest(image=image, provider=vendor, zoom=1.5, prompt="a lake")
            try:
                task = await service.outpaint(order, at_least=20)
                with anyio.move_on_after(40):
                    while task.status in (Status.QUEUED, Status.RUNNING):
                        task = await service.get_task(task.id, wait_seconds=5)
                told = task.model_dump_json()
            except OutpaintError as error:
                told = json.dumps({"refused": error.code})
    sys.stdout.write(told + "\n")


def listen(path: str) -> None:
    # Nobody asks for the exit codes of the processes that are forked here, but they do for those of their own.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # So that each finds all imported, and no collection of garbage writes to the pages that they share.
    anyio.run(anyio.sleep, 0)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile() as lines:
        os.dup2(connection.fileno(), sys.stdout.fileno())
        arguments = json.loads(lines.readline())
    try:
        anyio.run(lambda: place(**arguments))
    except BaseException:
        sys.stdout.write(json.dumps({"broke": traceback.format_exc()}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    listen(sys.argv[1])
