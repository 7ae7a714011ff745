"""Random schedules of orders, lost answers, crashes and restarts: an order is never paid twice, and never lost.

The whole program runs in one thread, on a loop whose clock jumps to the next timer as soon as nothing else is to be
done: hours take milliseconds, and the same schedule runs the same way each time. Meanwhile the machine's clock is set,
the data folder vanishes, connections close as an order is sent, and the bytes behind an image's URL are never the same.
Behind the adapters of three vendors are the sandbox's: one that keeps a key for each order (Apiframe), one that does
not (APIMart), and one that reports a cost of 0 until a task is done (Vtrix). What they count is compared with what
stands in the store.
"""

import asyncio
import contextlib
import io
import itertools
import math
import os
import selectors
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from PIL import Image

from outpaint_mcp.domain.clock import Clock, Uptime
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.order import InputImage, StepName
from outpaint_mcp.domain.record import CLAIM_SECONDS, REUSE_SECONDS, UNSENT_SECONDS, OrderState, Record
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status, StoredImage, Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.apiframe import Apiframe
from outpaint_mcp.providers.apimart import Apimart
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.vtrix import Vtrix
from outpaint_mcp.sandbox import SEEDS, Fault, PlainPainter, Sandbox, SandboxSettings, environment, image_store, seed_id
from outpaint_mcp.sandbox.tasks import Order as VendorsOrder
from outpaint_mcp.storage.sqlite import reading
from outpaint_mcp.storage.sqlite.store import LOOK_SECONDS, SqliteStore
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

T = TypeVar("T")

START = 1_800_000_000.0
"""Eight in the morning, UTC: no schedule reaches the next day, in which the caps begin anew."""
BASE_URL = "http://127.0.0.1:1"
TASK_TIMEOUT = 300.0
OPEN = (Status.QUEUED, Status.RUNNING)
EXAMPLES = int(os.environ.get("OUTPAINT_TEST_SCHEDULES", "60"))
"""How many schedules are played: 0.7 s of CPU time each. Whoever changes the state machine plays more of them."""

CLASSES: Mapping[str, Any] = {"apimart": Apimart, "apiframe": Apiframe, "vtrix": Vtrix}
PRICE = 0.05
"""What an order is taken to cost until the vendor says what it did, in USD."""
VARYING_URL = "http://127.0.0.1:1/stamped.png"

WANTED: Mapping[str, OutpaintRequest] = {
    "apimart a little": OutpaintRequest(task_id=seed_id("apimart", grid=False), provider="apimart", zoom=1.5),
    "apimart more": OutpaintRequest(task_id=seed_id("apimart", grid=False), provider="apimart", zoom=2.0),
    "apimart grid": OutpaintRequest(task_id=seed_id("apimart", grid=True), provider="apimart", zoom=1.5, image_index=2),
    "apiframe single": OutpaintRequest(task_id=seed_id("apiframe", grid=False), provider="apiframe", zoom=2.0),
    "apiframe grid": OutpaintRequest(
        task_id=seed_id("apiframe", grid=True), provider="apiframe", zoom=1.5, image_index=3
    ),
    "vtrix single": OutpaintRequest(task_id=seed_id("vtrix", grid=False), provider="vtrix", zoom=1.5),
    "vtrix own": OutpaintRequest(image=VARYING_URL, provider="vtrix", zoom=1.5, prompt="a lake"),
}
"""The orders that can be placed, each by the name under which it is counted."""

# Vendors that lie are left out: one that says 429 and takes the order all the same is believed.
FAULTS_OF_ORDERS: tuple[Mapping[str, Any], ...] = (
    {"fault": "drop"},
    {"fault": "drop", "accepted": True},
    {"fault": "slow", "seconds": 5},
    {"fault": "slow", "seconds": 5, "accepted": True},
    # Longer than a claim, and shorter than a process waits for an answer before it stops.
    {"fault": "slow", "seconds": 15, "accepted": True},
    {"fault": "slow", "seconds": 100},
    {"fault": "slow", "seconds": 100, "accepted": True},
    {"fault": "status", "status": 402},
    {"fault": "status", "status": 429},
    {"fault": "status", "status": 429, "retry_after": 2},
    {"fault": "status", "status": 503},
    {"fault": "status", "status": 503, "accepted": True},
    {"fault": "status", "status": 503, "retry_after": 3},
    {"fault": "status", "status": 500, "accepted": True},
    {"fault": "html", "status": 502, "accepted": True},
    {"fault": "html", "status": 200},
    {"fault": "html", "status": 200, "accepted": True},
    {"fault": "truncated_json"},
    {"fault": "fail"},
)
FAULTS_OF_QUESTIONS: tuple[Mapping[str, Any], ...] = (
    {"fault": "drop"},
    {"fault": "slow", "seconds": 5},
    {"fault": "slow", "seconds": 100},
    {"fault": "status", "status": 429, "retry_after": 5},
    {"fault": "status", "status": 503},
    {"fault": "html", "status": 200},
    {"fault": "truncated_json"},
    {"fault": "unknown_status"},
    {"fault": "gone"},
)


def _a_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


# Time that jumps


class _NeverIdle(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, the clock is moved there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        self.now += timeout
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop on which no time passes while anything is left to be done. No thread may be waited for."""

    def __init__(self) -> None:
        self._jumping = _NeverIdle()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class LoopClock:
    """`ahead` is by how much the machine's clock was set ahead, in seconds; below 0 it was set back."""

    ahead = 0.0

    def now(self) -> float:
        return START + anyio.current_time() + self.ahead

    def monotonic(self) -> float:
        return anyio.current_time()

    def uptime(self) -> Uptime:
        return Uptime("boot", anyio.current_time())

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class SeldomLooking(LoopClock):
    """For who looks twice a second for what others changed, which only those hear of who wait for it.

    Looking that often takes more than half of a schedule's time (November 2026).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await super().sleep(30 if seconds == LOOK_SECONDS else seconds)


@dataclass(slots=True)
class Log:
    """When what was written, in seconds of the loop: the machine's clock may say anything.

    `unknown` holds the tasks that were ever written down as unknown.
    """

    made: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def read(self, db: sqlite3.Connection) -> None:
        for task_id, status in db.execute("SELECT id, status FROM tasks"):
            self.made.setdefault(task_id, anyio.current_time())
            if Status(status).is_final:
                self.ended.setdefault(task_id, anyio.current_time())
            elif status == Status.UNKNOWN:
                self.unknown.add(task_id)


# A process, and its end


@dataclass(slots=True, eq=False)
class Life:
    """One run of the program: from its start until it is stopped or killed.

    `crossings_left` is how many more boundaries (before and after each access to the store and each request) it
    survives; None is no limit.
    """

    owner: str
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ready: anyio.Event = field(default_factory=anyio.Event)
    stop: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    crossings_left: int | None = None
    killed: bool = False
    service: Service | None = None
    clients: anyio.abc.TaskGroup | None = None

    def kill(self) -> None:
        """From here on it neither writes nor sends anything, not even what it does to clean up."""
        self.killed = True
        self.scope.cancel()

    async def cross(self, *, give_up: bool = True) -> None:
        """Pass a boundary. `give_up`: whether a client that goes away can be gone before it is passed."""
        if self.crossings_left is not None and not self.killed:
            if self.crossings_left == 0:
                self.kill()
            self.crossings_left -= 1
        if self.killed:
            await anyio.sleep_forever()
        with anyio.CancelScope(shield=not give_up):
            await anyio.lowlevel.checkpoint()


class MortalStore(SqliteStore):
    """A store without a thread, which can be left as a killed process leaves it. `log` gets what is written."""

    def __init__(self, path: Path, life: Life, log: Log) -> None:
        super().__init__(path, life.owner)
        self._life = life
        self._log = log

    async def _run(
        self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False, in_place: bool = False
    ) -> T:
        await self._life.cross()
        db = self._open()
        # Processes end here, machines do not.
        db.execute("PRAGMA synchronous = OFF")
        if in_place:
            self._check_place()
        before = db.total_changes
        done = work(db)
        if db.total_changes != before:
            self._log.read(db)
        # What was begun in a thread comes back from it: the client is not gone before it has the result.
        await self._life.cross(give_up=False)
        return done

    async def _look_up(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(work)

    async def heard(self, clock: Clock) -> None:
        await super().heard(SeldomLooking(clock))

    def everything(self) -> list[Record]:
        """All that was ordered, the oldest first, at one moment."""
        db = self._open()
        # What was taken in (the finished tasks that are extended) has no hash.
        ids = db.execute("SELECT id FROM tasks WHERE order_hash IS NOT NULL ORDER BY rowid").fetchall()
        return [record for row in ids if (record := reading.load(db, row[0])) is not None]

    async def aclose(self) -> None:
        # Nobody can be killed in here: it is shielded.
        if self._connection is not None:
            if not self._life.killed:
                self._release_all(self._connection)
            self._connection.close()
            self._connection = None


class Line(httpx2.AsyncBaseTransport):
    """The network between one life and the vendors.

    `refusing` is how many more connections find nobody; `closing` how many more close while a request is sent, before
    or after the vendor has it.
    """

    def __init__(
        self, life: Life, sandbox: Sandbox, refusing: Counter[str], closing: Counter[tuple[str, bool]]
    ) -> None:
        self._life = life
        self._app = httpx2.ASGITransport(sandbox.app)
        self._refusing = refusing
        self._closing = closing

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self._life.cross()
        vendor = request.url.path.split("/")[1]
        if self._refusing[vendor] > 0:
            self._refusing[vendor] -= 1
            raise httpx2.ConnectError("Connection refused")
        if self._closing[vendor, False] > 0:
            self._closing[vendor, False] -= 1
            raise httpx2.WriteError("Broken pipe")
        answer = await self._app.handle_async_request(request)
        if self._closing[vendor, True] > 0:
            self._closing[vendor, True] -= 1
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        await self._life.cross()
        return answer


class NoPictures(ImageLibrary):
    """Keeps no pictures: they cost neither money nor orders, and a thread each. Each that is read is another one."""

    read_so_far = itertools.count(1)

    async def read(self, ref: str, *, client: str = "", paths_allowed: bool = True) -> InputImage:
        await anyio.lowlevel.checkpoint()
        sha256 = f"{next(self.read_so_far):064x}"
        return InputImage(sha256, "image/png", 64, 64, str(self.source_path(sha256, "image/png")), ref)

    async def keep(self, url: str, *, client: str = "") -> StoredImage:
        await anyio.lowlevel.checkpoint()
        return StoredImage("0" * 64, "image/png", 64, 64, 1)

    async def prune(self, **_: Any) -> int:
        await anyio.lowlevel.checkpoint()
        return 0


# The world


@dataclass(frozen=True, slots=True)
class Counted:
    """What a vendor took for one of `WANTED`."""

    name: str
    step: StepName
    remote_id: str


class World:
    """Two vendors, a data folder, the processes on it, and all that was asked of them."""

    def __init__(self, folder: Path, *, seconds_per_state: float, cap: int | None, usd: float | None = None) -> None:
        self._folder = folder
        self._cap = cap
        self._usd = usd
        self.clock = LoopClock()
        self.sandbox = Sandbox(
            SandboxSettings(
                seconds_per_state=seconds_per_state,
                clock=LoopClock().now,
                painter=PlainPainter(),
                transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=_a_picture())),
            )
        )
        self.refusing: Counter[str] = Counter()
        self.closing: Counter[tuple[str, bool]] = Counter()
        self.repeats: Counter[str] = Counter()
        self.log = Log()
        self.clock_was_set = False
        self.lives: list[Life] = []
        self._names = itertools.count(1)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._watcher = MortalStore(folder / "store.db", Life("watcher"), self.log)

    @contextlib.asynccontextmanager
    async def existing(self) -> AsyncIterator[None]:
        try:
            async with anyio.create_task_group() as self._tasks:
                yield
                for life in self.lives:
                    life.kill()
        finally:
            await self._watcher.aclose()
            self.sandbox.close()

    @property
    def unlimited(self) -> bool:
        return self._cap is None and self._usd is None

    # What happens

    def set_clock(self, ahead: float) -> None:
        self.clock_was_set = self.clock_was_set or ahead != self.clock.ahead
        self.clock.ahead = ahead

    async def begin(self) -> Life:
        """Start a process."""
        assert self._tasks is not None
        life = Life(f"life {next(self._names)}")
        self.lives.append(life)
        self._tasks.start_soon(self._live, life)
        await life.ready.wait()
        return life

    async def _live(self, life: Life) -> None:
        clock = self.clock
        variables = environment(BASE_URL)

        try:
            with life.scope:
                async with anyio.create_task_group() as life.clients:
                    client = HttpClient(
                        transport=Line(life, self.sandbox, self.refusing, self.closing),
                        sleep=anyio.sleep,
                        jitter=lambda: 0.5,
                        clock=clock.now,
                    )
                    providers: dict[str, Provider] = {
                        name: vendor(
                            client,
                            key=variables[f"{name.upper()}_API_KEY"],
                            base_url=variables[f"{name.upper()}_BASE_URL"],
                        )
                        for name, vendor in CLASSES.items()
                    }
                    life.service = Service(
                        store=MortalStore(self._folder / "store.db", life, self.log),
                        images=NoPictures(self._folder, roots=()),
                        providers=providers,
                        options=ServiceOptions(
                            auto=tuple(providers),
                            daily_limits=DailyLimits(usd=self._usd, orders=self._cap),
                            prices=dict.fromkeys(providers, PRICE),
                            task_timeout=TASK_TIMEOUT,
                        ),
                        clock=clock,
                        jitter=lambda: 0.5,
                    )
                    scheduler = Scheduler(life.service, life.service.events, clock=SeldomLooking(clock))
                    async with client, life.service.running(), scheduler.running():
                        life.ready.set()
                        await life.stop.wait()
                        await life.service.stop(5)
                    life.clients.cancel_scope.cancel()
        finally:
            self.lives.remove(life)
            life.ready.set()
            life.ended.set()

    async def life(self, number: int) -> Life:
        """One of the processes that go on; a new one if there is none."""
        going_on = [life for life in self.lives if not (life.killed or life.stop.is_set())]
        return going_on[number % len(going_on)] if going_on else await self.begin()

    def call(self, life: Life, name: str, *, repeat: bool, wait: float, give_up_after: int | None) -> None:
        """Have somebody order, and go away after so many turns of the loop."""
        self.repeats[name] += repeat
        assert life.clients is not None
        life.clients.start_soon(self._call, life, name, repeat, wait, give_up_after)

    async def _call(self, life: Life, name: str, repeat: bool, wait: float, give_up_after: int | None) -> None:
        async with anyio.create_task_group() as client:
            if give_up_after is not None:
                client.start_soon(self._give_up, client.cancel_scope, give_up_after)
            await self.ordered(life, name, repeat=repeat, wait=wait)
            client.cancel_scope.cancel()

    async def _give_up(self, scope: anyio.CancelScope, turns: int) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async def ordered(self, life: Life, name: str, *, repeat: bool = False, wait: float = 0) -> Task | None:
        """The task of an order, or None if it was refused."""
        request = WANTED[name]
        assert life.service is not None
        try:
            return await life.service.outpaint(
                OutpaintRequest(
                    task_id=request.task_id,
                    provider=request.provider,
                    image=request.image,
                    prompt=request.prompt,
                    zoom=request.zoom,
                    image_index=request.image_index,
                    repeat=repeat,
                ),
                wait_seconds=wait,
            )
        except OutpaintError:
            return None

    async def without_folder(self, *, replaced: bool, seconds: float) -> None:
        """Take the data folder away from all processes for a while, and try to order."""
        going_on = [life for life in self.lives if not (life.killed or life.stop.is_set())] or [await self.begin()]
        for life in going_on:
            # One that had not opened the folder yet would rightly begin a new one.
            with anyio.move_on_after(1):
                assert life.service is not None
                await life.service.check()
        going_on = [life for life in going_on if not life.killed]
        away = self._folder.with_name(f"{self._folder.name}-away")
        known = {record.task.id for found in self.records().values() for record in found}
        self._folder.rename(away)
        if replaced:
            self._folder.mkdir()
        try:
            for life in going_on:
                for name in WANTED:
                    self.call(life, name, repeat=False, wait=0, give_up_after=None)
            await anyio.sleep(seconds)
        finally:
            if replaced:
                shutil.rmtree(self._folder)
            away.rename(self._folder)
        # At this moment: nothing has been written since the folder is back.
        after = {record.task.id for found in self.records().values() for record in found}
        assert after == known, "an order was taken while the folder was away"

    # What is counted

    def counted(self) -> list[Counted]:
        """Every order that a vendor took."""
        found: dict[str, Counted] = {}
        for order in self.sandbox.orders():
            parent = _parent_of(order)
            step = StepName.UPSCALE if order.kind == "upscale" else StepName.OUTPAINT
            name = found[parent].name if parent in found else _name_of(order, parent)
            found[order.id] = Counted(name, step, order.id)
        return list(found.values())

    def records(self) -> dict[str, list[Record]]:
        """What stands in the store for each of `WANTED`, the oldest first."""
        found: dict[str, list[Record]] = {name: [] for name in WANTED}
        for record in self._watcher.everything():
            found[_name_of_record(record)].append(record)
        return found

    def check(self) -> None:
        """Compare what the vendors counted with what stands in the store."""
        counted = self.counted()
        records = self.records()
        for name, found in records.items():
            self._check_repeats(name, found)
            for step in StepName:
                taken = {one.remote_id for one in counted if (one.name, one.step) == (name, step)}
                rows = [row for record in found for row in record.steps if row.name is step]
                known = [row.remote_id for row in rows if row.state is OrderState.ACCEPTED]
                assert len(known) == len(set(known)), f"{name}: two orders have one remote id"
                assert taken.issuperset(known), f"{name}: the vendor does not know what it is said to have accepted"
                lost = sum(row.state in (OrderState.SENT, OrderState.UNCONFIRMED) for row in rows)
                assert len(taken) - len(known) <= lost, f"{name}: the vendor counts an {step} that nobody knows of"
        self._check_budget([record for found in records.values() for record in found])

    def _check_repeats(self, name: str, found: list[Record]) -> None:
        """A second task of the same order needs a reason."""
        repeats = 0
        for older, newer in itertools.pairwise(record.task for record in found):
            pause = self.log.made[newer.id] - self.log.ended.get(older.id, math.inf)
            ended = pause >= 0
            if ended and older.status in (Status.FAILED, Status.CANCELLED):
                continue
            # A clock that was set may say that it is long ago.
            if ended and older.status is Status.SUCCEEDED and (self.clock_was_set or pause > REUSE_SECONDS - 0.001):
                continue
            unknown = older.id in self.log.unknown
            assert ended or unknown, f"{name} was ordered again while it was {older.status.value}"
            repeats += 1
        assert repeats <= self.repeats[name], f"{name} was ordered again although nobody said repeat"

    def _check_budget(self, records: list[Record]) -> None:
        for record in records:
            for row in record.steps:
                match row.state:
                    case OrderState.SENT | OrderState.UNCONFIRMED:
                        reserved = True
                    case OrderState.REFUSED:
                        reserved = False
                    case OrderState.ACCEPTED:
                        # Both vendors give back what a failed task cost.
                        reserved = row.status not in (Status.FAILED, Status.CANCELLED)
                    case OrderState.INTENDED:
                        reserved = not record.task.status.is_final
                assert row.reserved is reserved, (record.task.status, row)
        counting = [row for record in records for row in record.steps if row.reserved]
        if self._cap is not None:
            assert len(counting) <= self._cap
        if self._usd is not None:
            # Until a task is done its order counts in full, whatever the vendor reports meanwhile.
            spent = sum(min(PRICE, row.usd or PRICE) if row.status is Status.SUCCEEDED else PRICE for row in counting)
            assert spent <= self._usd + 1e-9

    async def wind_up(self) -> None:
        """No more trouble: whatever is open must come to its end, and answer for the same order."""
        self.sandbox.faults.clear()
        self.refusing.clear()
        self.closing.clear()
        for life in self.lives:
            life.crossings_left = None
        life = await self.life(0)
        await anyio.sleep(CLAIM_SECONDS + UNSENT_SECONDS + TASK_TIMEOUT)
        for _ in range(30):
            if not any(record.task.status in OPEN for found in self.records().values() for record in found):
                break
            # One that was out of time may have come to its next step just now.
            await anyio.sleep(20)
        self.check()
        records = self.records()
        for name, found in records.items():
            for record in found:
                task = record.task
                assert task.status not in OPEN, f"{name} is stuck: {task}"
                codes = set() if task.provider == "apiframe" and not self.clock_was_set else {"order_unconfirmed"}
                if task.status is Status.UNKNOWN:
                    assert task.failure is not None
                    assert task.failure.code in {*codes, "timed_out", "unknown_task"}, f"{name}: {task.failure.code}"
            if found and found[-1].task.status is Status.UNKNOWN:
                again = await self.ordered(life, name)
                assert again is not None
                assert again.id == found[-1].task.id
        self.check()


def _parent_of(order: VendorsOrder) -> str:
    """The id of the task that an order extends; of an own picture its URL."""
    if order.vendor == "vtrix":
        params = order.body["input"][0]["params"]
        if "imgUrl" in params:
            return str(params["imgUrl"])
        return next((seed.id for seed in SEEDS if seed.remote_id == params["jobId"]), str(params["jobId"]))
    return str(order.body.get("task_id") or order.body["parentJobId"])


def _name_of(order: VendorsOrder, parent: str) -> str:
    """Which of `WANTED` a vendor's order of a finished task is."""
    zoom = order.body.get("zoom_ratio") or order.body.get("zoomRatio")
    for name, request in WANTED.items():
        if order.vendor == "vtrix" and parent in (request.task_id, request.image):
            return name
        if request.task_id == parent and (order.kind == "upscale" or request.zoom == zoom):
            return name
    raise AssertionError(f"nobody wanted {order}")


def _name_of_record(record: Record) -> str:
    task = record.task
    for name, request in WANTED.items():
        steps = 1 if request.image_index is None else 2
        if (task.request.get("image") is None) is not (request.image is None):
            continue
        if (task.provider, len(record.steps), task.request["zoom"]) == (request.provider, steps, request.zoom):
            return name
    raise AssertionError(f"nobody wanted {task.request}")


class Schedules(RuleBasedStateMachine):
    """What can happen, in any order. Hypothesis looks for a schedule after which the counts differ."""

    MOMENTS: ClassVar[st.SearchStrategy[float]] = st.sampled_from([0.2, 1.0, 4.0, 12.0, 30.0, 95.0, 400.0, 700.0])

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner(loop_factory=JumpingLoop)
        self._folder = tempfile.TemporaryDirectory()
        self._exists: asyncio.Task[None] | None = None
        self._world: World | None = None
        self._over: asyncio.Event | None = None
        self._sound = True

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run one step; what has begun meanwhile stands still until the next."""
        self._sound = False
        done = self._runner.run(step)
        if self._exists is not None and self._exists.done():
            self._exists.result()
        self._sound = True
        return done

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    @initialize(
        seconds_per_state=st.sampled_from([0.5, 5.0, 200.0]),
        cap=st.sampled_from([None, 3, 8]),
        usd=st.sampled_from([None, 2 * PRICE, 4 * PRICE]),
        first=st.lists(st.sampled_from(list(WANTED)), min_size=2, max_size=4, unique=True),
        pause=st.sampled_from([1.0, 12.0, 12.0]),
    )
    def there_is_a_world(
        self, seconds_per_state: float, cap: int | None, usd: float | None, first: list[str], pause: float
    ) -> None:
        """The first orders come before anything goes wrong: without them most schedules would hold none."""

        async def begin() -> None:
            ready, self._over = asyncio.Event(), asyncio.Event()

            async def exist(over: asyncio.Event) -> None:
                self._world = World(Path(self._folder.name), seconds_per_state=seconds_per_state, cap=cap, usd=usd)
                async with self._world.existing():
                    ready.set()
                    await over.wait()

            self._exists = asyncio.create_task(exist(self._over))
            await ready.wait()
            life = await self.world.begin()
            for name in first:
                await self.world.ordered(life, name)
                await anyio.sleep(pause)

        self._run(begin())

    @rule(
        name=st.sampled_from(list(WANTED)),
        process=st.integers(0, 1),
        repeat=st.booleans(),
        wait=st.sampled_from([0.0, 25.0]),
        give_up_after=st.none() | st.integers(0, 60),
        turns=st.integers(0, 60),
    )
    def somebody_orders(
        self, name: str, process: int, repeat: bool, wait: float, give_up_after: int | None, turns: int
    ) -> None:
        async def order() -> None:
            life = await self.world.life(process)
            self.world.call(life, name, repeat=repeat, wait=wait, give_up_after=give_up_after)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()

        self._run(order())

    @rule(name=st.sampled_from(list(WANTED)), repeat=st.booleans())
    def the_same_is_ordered_twice_at_once(self, name: str, repeat: bool) -> None:
        async def order() -> None:
            for process in (0, 1):
                life = await self.world.life(process)
                self.world.call(life, name, repeat=repeat, wait=0, give_up_after=None)
            await anyio.sleep(0.1)

        self._run(order())

    @rule(
        vendor=st.sampled_from(list(CLASSES)),
        on=st.sampled_from(["submit", "upscale"]),
        fault=st.sampled_from(FAULTS_OF_ORDERS),
        times=st.sampled_from([1, 1, 3, 6]),
    )
    def an_order_will_go_wrong(self, vendor: str, on: str, fault: Mapping[str, Any], times: int) -> None:
        self._plant(vendor, on, fault, times)

    @rule(
        vendor=st.sampled_from(list(CLASSES)),
        fault=st.sampled_from(FAULTS_OF_QUESTIONS),
        times=st.sampled_from([1, 5, 20]),
    )
    def a_question_will_go_wrong(self, vendor: str, fault: Mapping[str, Any], times: int) -> None:
        self._plant(vendor, "poll", fault, times)

    @rule(vendor=st.sampled_from(list(CLASSES)), accepted=st.booleans())
    def answers_to_orders_are_lost(self, vendor: str, accepted: bool) -> None:
        # More often than one order is asked for again.
        for on in ("submit", "upscale"):
            self._plant(vendor, on, {"fault": "drop", "accepted": accepted}, 6)

    def _plant(self, vendor: str, on: str, fault: Mapping[str, Any], times: int) -> None:
        self.world.sandbox.faults.add(Fault.model_validate({"vendor": vendor, "on": on, "times": times, **fault}))

    @rule(vendor=st.sampled_from(list(CLASSES)), taken=st.booleans(), times=st.sampled_from([1, 3]))
    def connections_close_while_something_is_sent(self, vendor: str, taken: bool, times: int) -> None:
        self.world.closing[vendor, taken] += times

    @rule(hours=st.sampled_from([-26.0, -6.0, -1.0, -0.2, 0.0, 0.2, 1.0, 6.0, 26.0]))
    def the_clock_is_set(self, hours: float) -> None:
        # Limits begin anew each day: with one, it stays the same day.
        if self.world.unlimited or abs(hours) < 7:
            self.world.set_clock(hours * 3600)

    @rule(replaced=st.booleans(), seconds=st.sampled_from([0.2, 30.0, 400.0]))
    def the_folder_vanishes_for_a_while(self, replaced: bool, seconds: float) -> None:
        self._run(self.world.without_folder(replaced=replaced, seconds=seconds))

    @rule(vendor=st.sampled_from(list(CLASSES)), times=st.sampled_from([1, 3]))
    def nobody_will_answer(self, vendor: str, times: int) -> None:
        self.world.refusing[vendor] += times

    @rule(process=st.integers(0, 1), crossings=st.integers(0, 25))
    def a_process_will_be_killed(self, process: int, crossings: int) -> None:
        async def arm() -> None:
            (await self.world.life(process)).crossings_left = crossings

        self._run(arm())

    @rule(process=st.integers(0, 1))
    def a_process_is_stopped(self, process: int) -> None:
        async def stop() -> None:
            life = await self.world.life(process)
            life.stop.set()
            await life.ended.wait()

        self._run(stop())

    @rule()
    def another_process_begins(self) -> None:
        if len(self.world.lives) < 2:
            self._run(self._begin())

    async def _begin(self) -> None:
        await self.world.begin()

    @rule(seconds=MOMENTS)
    def time_passes(self, seconds: float) -> None:
        self._run(anyio.sleep(seconds))

    @invariant()
    def the_counts_agree(self) -> None:
        if self._world is not None:
            self.world.check()

    def teardown(self) -> None:
        try:
            if self._world is not None and self._sound:
                self._run(self.world.wind_up())
        finally:
            if self._over is not None and self._exists is not None and not self._exists.done():
                self._over.set()
                with contextlib.suppress(Exception):
                    self._runner.run(asyncio.wait_for(asyncio.shield(self._exists), 60))
            self._runner.close()
            self._folder.cleanup()


class _AtOnce:
    """In place of threads, for which the loop would not wait."""

    @staticmethod
    async def run_sync(work: Callable[..., T], *arguments: Any) -> T:
        await anyio.lowlevel.checkpoint()
        return work(*arguments)


@pytest.fixture(autouse=True)
def no_thread_of_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "to_thread", _AtOnce)


@pytest.mark.timeout(10 * EXAMPLES)
# Measuring what it runs takes as long as running it, and adds no line to what the other tests run.
@pytest.mark.no_cover
def test_no_schedule_makes_an_order_be_paid_twice_or_lost() -> None:
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_an_order_whose_answer_comes_only_after_its_process_lost_its_claim_is_followed_to_its_end(
    tmp_path: Path,
) -> None:
    async def stop_while_ordering() -> None:
        world = World(tmp_path, seconds_per_state=1, cap=None)
        async with world.existing():
            first = await world.begin()
            await world.begin()
            # Longer than a claim, and shorter than a process that stops waits for the answer.
            slow = Fault(vendor="apimart", on="submit", fault="slow", seconds=15, accepted=True)
            world.sandbox.faults.add(slow)
            world.call(first, "apimart more", repeat=False, wait=0, give_up_after=None)
            await anyio.sleep(1)
            first.stop.set()
            await anyio.sleep(200)
            world.check()
            (record,) = world.records()["apimart more"]
            assert record.task.status is Status.SUCCEEDED
            assert len(world.counted()) == 1

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(stop_while_ordering())


def test_the_bytes_behind_a_url_and_the_reported_cost_of_an_unfinished_task_place_no_further_order(
    tmp_path: Path,
) -> None:
    async def order_again_and_again() -> None:
        world = World(tmp_path, seconds_per_state=5, cap=None, usd=2 * PRICE)
        async with world.existing():
            life = await world.begin()
            for name in ("vtrix own", "vtrix own", "vtrix single", "vtrix own"):
                assert await world.ordered(life, name) is not None
                await anyio.sleep(4)
            assert await world.ordered(life, "apimart more") is None, "two orders are under way, and no third allowed"
            assert sorted(one.name for one in world.counted()) == ["vtrix own", "vtrix single"]
            world.check()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(order_again_and_again())
