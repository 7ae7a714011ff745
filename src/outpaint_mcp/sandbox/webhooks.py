"""Sends the vendors' pushes, at the moments their tasks reach, and only to this machine.

A push to any other address is written down as refused and not sent. What a push says is the vendor's business: this
module knows when, where to, and how often to try.
"""

import heapq
import ipaddress
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import httpx2

from outpaint_mcp.sandbox.tasks import Job, Webhook

if TYPE_CHECKING:
    from outpaint_mcp.sandbox.vendor import Vendor

TIME_OUT_SECONDS = 5.0
PARALLEL = 8
# How often the runner looks at the clock while something is due later: the clock may be one that is moved by hand.
LONGEST_NAP_SECONDS = 0.25


def is_loopback(url: str) -> bool:
    """Whether `url` is an http(s) URL on this machine, by its literal host: names other than localhost are not."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Push:
    """One push as it goes out."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one push. `outcome` is `delivered`, `failed` or `not sent`; `url` is without its query."""

    vendor: str
    task: str
    event: str
    url: str
    outcome: str
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class _Planned:
    at: float
    vendor: "Vendor"
    job: Job
    hook: Webhook
    event: str


class Webhooks:
    """The pushes that are due, and the newest `limit` that went out or did not."""

    def __init__(self, clock: Callable[[], float], client: Callable[[], httpx2.AsyncClient], *, limit: int) -> None:
        self._clock = clock
        self._client = client
        self._due: list[tuple[float, int, _Planned]] = []
        self._numbers = count()
        self._news = anyio.Event()
        self.log: deque[Delivery] = deque(maxlen=limit)

    def schedule(self, at: float, vendor: "Vendor", job: Job, hook: Webhook, event: str) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), _Planned(at, vendor, job, hook, event)))
        self._news.set()

    async def deliver(self) -> int:
        """Sends everything that is due by the clock, earliest first, and returns how many that were."""
        now = self._clock()
        ready = []
        while self._due and self._due[0][0] <= now:
            ready.append(heapq.heappop(self._due)[2])
        if not ready:
            return 0
        limiter = anyio.CapacityLimiter(PARALLEL)
        async with self._client() as client, anyio.create_task_group() as group:
            for planned in ready:
                group.start_soon(self._send, client, limiter, planned)
        return len(ready)

    async def run(self) -> None:
        """Delivers as time passes, for ever."""
        while True:
            await self.deliver()
            self._news = anyio.Event()
            nap = min(self._due[0][0] - self._clock(), LONGEST_NAP_SECONDS) if self._due else None
            if nap is None or nap > 0:
                with anyio.move_on_after(nap):
                    await self._news.wait()

    async def _send(self, client: httpx2.AsyncClient, limiter: anyio.CapacityLimiter, planned: "_Planned") -> None:
        job, url = planned.job, planned.hook.url
        # A task cancelled in the meantime never reaches the moment that was planned.
        if job.cancelled_at is not None and planned.at > job.cancelled_at:
            return
        if is_loopback(url):
            push = planned.vendor.push(job, planned.hook, planned.event, planned.at)
            async with limiter:
                outcome, detail = await self._try(client, planned.vendor.push_attempts, url, push)
        else:
            outcome, detail = "not sent", "the sandbox sends to loopback addresses only"
        job.webhook_status = outcome
        shown = url.partition("?")[0]
        self.log.append(Delivery(job.vendor, job.id, planned.event, shown, outcome, detail, self._clock()))

    @staticmethod
    async def _try(client: httpx2.AsyncClient, attempts: int, url: str, push: Push) -> tuple[str, str]:
        detail = ""
        for _ in range(attempts):
            try:
                answer = await client.post(url, headers=push.headers, content=push.body, timeout=TIME_OUT_SECONDS)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                detail = type(error).__name__
                continue
            detail = f"HTTP {answer.status_code}"
            if answer.is_success:
                return "delivered", detail
        return "failed", detail
