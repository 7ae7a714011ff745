"""Sends the vendors' webhooks when they are due, and only to this machine.

A webhook to any other address is logged as not sent. The vendor makes its content; this module
knows when, where to, and how often to try.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import anyio
import httpx2

from outpaint_mcp.sandbox.loopback import is_loopback
from outpaint_mcp.sandbox.tasks import Task, Webhook

TIMEOUT_SECONDS = 5.0
PARALLEL = 8
# How often the runner looks at the clock while something is due later: the clock may be one that is moved by hand.
LONGEST_SLEEP_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The HTTP request that one webhook is."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one webhook. `outcome` is `delivered`, `failed` or `not sent`; `url` is without its query."""

    vendor: str
    task: str
    event: str
    url: str
    outcome: str
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class ScheduledWebhook:
    """A webhook due at Unix time `at`; `build` makes its request when it goes out, tried `attempts` times."""

    at: float
    task: Task
    webhook: Webhook
    event: str
    build: Callable[[], WebhookRequest]
    attempts: int = 1


class Webhooks:
    """The scheduled webhooks, and the newest `limit` that were sent or not."""

    def __init__(self, clock: Callable[[], float], client: Callable[[], httpx2.AsyncClient], *, limit: int) -> None:
        self._clock = clock
        self._client = client
        self._scheduled: list[tuple[float, int, ScheduledWebhook]] = []
        self._numbers = count()
        self._changed = anyio.Event()
        self.log: deque[Delivery] = deque(maxlen=limit)

    def schedule(self, webhook: ScheduledWebhook) -> None:
        """Queues a webhook, which `run` or `deliver` sends once it is due."""
        heapq.heappush(self._scheduled, (webhook.at, next(self._numbers), webhook))
        self._changed.set()

    async def deliver(self) -> int:
        """Sends everything that is due by the clock, earliest first, and returns how many that were."""
        now = self._clock()
        due = []
        while self._scheduled and self._scheduled[0][0] <= now:
            due.append(heapq.heappop(self._scheduled)[2])
        if not due:
            return 0
        limiter = anyio.CapacityLimiter(PARALLEL)
        async with self._client() as client, anyio.create_task_group() as group:
            for webhook in due:
                group.start_soon(self._send, client, limiter, webhook)
        return len(due)

    async def run(self) -> None:
        """Delivers as time passes, until cancelled."""
        while True:
            await self.deliver()
            self._changed = anyio.Event()
            seconds = min(self._scheduled[0][0] - self._clock(), LONGEST_SLEEP_SECONDS) if self._scheduled else None
            if seconds is None or seconds > 0:
                with anyio.move_on_after(seconds):
                    await self._changed.wait()

    async def _send(
        self, client: httpx2.AsyncClient, limiter: anyio.CapacityLimiter, scheduled: ScheduledWebhook
    ) -> None:
        task, url = scheduled.task, scheduled.webhook.url
        # A task that was cancelled earlier never reaches the scheduled state.
        if task.cancelled_at is not None and scheduled.at > task.cancelled_at:
            return
        if is_loopback(url):
            request = scheduled.build()
            async with limiter:
                outcome, detail = await self._try(client, scheduled.attempts, url, request)
        else:
            outcome, detail = "not sent", "the sandbox sends to loopback addresses only"
        task.webhook_status = outcome
        shown = url.partition("?")[0]
        self.log.append(Delivery(task.vendor, task.id, scheduled.event, shown, outcome, detail, self._clock()))

    @staticmethod
    async def _try(client: httpx2.AsyncClient, attempts: int, url: str, request: WebhookRequest) -> tuple[str, str]:
        detail = ""
        for _ in range(attempts):
            try:
                answer = await client.post(url, headers=request.headers, content=request.body, timeout=TIMEOUT_SECONDS)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                detail = type(error).__name__
                continue
            detail = f"HTTP {answer.status_code}"
            if answer.is_success:
                return "delivered", detail
        return "failed", detail
