"""An engine that answers an order with its images, minutes later: the connection is held here, and the task polled.

It refuses at once what it refuses. Whatever else goes wrong ends the task: nothing was paid, so nothing is in doubt.
"""

import contextlib
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeVar

import anyio
import anyio.abc

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    InvalidRequestError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    UnexpectedResponseError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.task import Cost, Failure, Status, TaskUpdate
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.providers.calls import MAX_IMAGES, ApiCall, Endpoint, quoted
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.rejections import find_code, find_message, rejection
from outpaint_mcp.providers.self_hosted import SelfHosted
from outpaint_mcp.providers.synchronous import Painted, SynchronousProvider

logger = logging.getLogger(__name__)

REFUSES_WITHIN: Final = 2.0
"""Seconds after which an order that was sent is taken to be drawn."""
WATCH_SECONDS: Final = 0.5
REMEMBERED: Final = 100
"""Orders that are done and may be polled once more."""

SHOWN_NAMES: Final = 12

T = TypeVar("T")


class EngineFailedError(ProviderUnavailableError):
    """The engine answered that it broke over the order, which may break it again."""

    retryable = False


@dataclass(slots=True)
class Held:
    """An order in the hands of an engine: how it stands, and whether that can be told.

    Args:
        order: the order.
        frame: where its image lies.
        endpoint: the engine.
        update: how it stands.
        known: set once it is taken, or will not be.
        refusal: why it was not taken.
        seen: what the engine said meanwhile that its answer does not say.
    """

    order: Order
    frame: Frame
    endpoint: Endpoint
    update: TaskUpdate
    known: anyio.Event = field(default_factory=anyio.Event)
    refusal: OutpaintError | None = None
    seen: set[str] = field(default_factory=set)

    def stands(self, status: Status, progress: float | None = None) -> None:
        """It is in this state now; progress is 0-100."""
        self.update = replace(self.update, status=status, progress=progress)


class HeldOrders(SelfHosted, SynchronousProvider):
    """An engine whose answer to an order is the image. Its file says how one is drawn (`draw`).

    One order at a time is drawn (`turn`): engines keep a line or get in each other's way.
    """

    usual_address: ClassVar[str]
    """Where it listens by itself."""
    order_seconds: ClassVar[float | None] = 1800.0
    holds_orders = True
    first_poll = poll_interval = 1.0

    def __init__(self, client: HttpClient, **more: Any) -> None:
        super().__init__(client, **more)
        self._held: dict[str, Held] = {}
        self._turn = anyio.Lock()
        self._group: anyio.abc.TaskGroup | None = None

    @abstractmethod
    async def draw(self, held: Held) -> TaskUpdate:
        """Have an order drawn to its end, or taken by an engine that gives it an id of its own.

        Raises:
            OutpaintError: it was not taken, or the answer was lost.
        """

    async def asked(self, endpoint: Endpoint, path: str) -> Any:
        """What the engine answers to a GET that only tells.

        Raises:
            OutpaintError: it does not answer as it should.
        """
        try:
            return await self._client.read(endpoint, ApiCall("GET", path), attempts=1)
        except EngineFailedError:
            raise
        except ProviderUnavailableError as error:
            advice = (
                f"Nothing was ordered. Have the operator start it, or set {self.base_url_env()} to its "
                f"address (by itself it listens on {self.usual_address})."
            )
            raise ProviderUnavailableError(error.message, advice, retry_after=error.retry_after) from error

    def known_name(self, what: str, asked: str, names: Sequence[str]) -> str:
        """The one of the engine's `names` that is asked for, whatever its case.

        Raises:
            InvalidRequestError: there is none.
        """
        found = next((name for name in names if name.casefold() == asked.casefold()), None)
        if found is None:
            raise InvalidRequestError(
                f"{self.title} has no {what} {asked!r}.", f"It has {named(names)}. Give one as {what}."
            )
        return found

    async def watch(self, held: Held) -> None:
        """Look how far an order is that is being drawn; called again and again.

        Raises:
            OutpaintError: nobody answers.
        """

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as self._group:
            yield
            # Connections end; what the engine still draws is nobody's.
            self._group.cancel_scope.cancel()
        self._group = None

    async def start(self, order: Order) -> TaskUpdate:
        if self._group is None or order.frame is None:
            raise RuntimeError("an engine draws input images, and only inside running()")
        done = [key for key, held in self._held.items() if held.update.status.is_final]
        for key in done[:-REMEMBERED]:
            del self._held[key]
        held = Held(order, order.frame, self._endpoint(order), TaskUpdate(Status.QUEUED, order.key))
        self._held[order.key] = held
        self._group.start_soon(self._hold, held)
        await held.known.wait()
        if held.refusal is not None or held.update.remote_id != order.key:
            # It was not taken, or the engine keeps it.
            del self._held[order.key]
        if held.refusal is not None:
            raise held.refusal
        return held.endpoint.tidied(held.update)

    async def _hold(self, held: Held) -> None:
        error: OutpaintError
        key = held.order.key
        try:
            held.update = await self.draw(held)
        except OrderUnconfirmedError as lost:
            error = lost.__cause__ if isinstance(lost.__cause__, OutpaintError) else lost
            held.update = self.failed(key, error)
        except OutpaintError as refused:
            held.refusal, held.update = refused, self.failed(key, refused)
        except Exception:
            logger.exception("drawing the order %s failed", key)
            error = ProviderUnavailableError(f"The order to {self.title} broke off on this side.")
            held.update = self.failed(key, error)
        held.known.set()

    @staticmethod
    def failed(remote_id: str, error: OutpaintError) -> TaskUpdate:
        """The end of an order over an error."""
        advice = "" if error.advice == error.default_advice else f" {error.advice}"
        failure = Failure(
            code=error.code,
            message=f"{error.message}{advice}",
            provider_code=error.provider_code,
            retryable=error.retryable,
        )
        return TaskUpdate(Status.FAILED, remote_id, failure=failure)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        held = self._held.get(remote_id)
        if held is not None:
            return held.endpoint.tidied(held.update)
        message = f"This program stopped while it waited for {self.title}, whose answer is lost."
        return self.failed(remote_id, ProviderUnavailableError(message, "Nothing was paid."))

    @contextlib.asynccontextmanager
    async def turn(self, held: Held) -> AsyncIterator[None]:
        """While it is this order's turn."""
        if self._turn.locked():
            held.known.set()
        async with self._turn:
            held.stands(Status.RUNNING, 0)
            yield

    async def answered(self, held: Held, call: ApiCall, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the engine's answer to an order, which is watched meanwhile. Raises as `draw` does."""
        outcome: T | OutpaintError
        async with anyio.create_task_group() as group:
            group.start_soon(self._taken_later, held)
            group.start_soon(self._watched, held)
            try:
                outcome = await self._placed(held.endpoint, call, held.order, parse)
            except OutpaintError as error:
                outcome = error
            group.cancel_scope.cancel()
        if isinstance(outcome, OutpaintError):
            raise outcome
        return outcome

    async def _taken_later(self, held: Held) -> None:
        await self._sleep(REFUSES_WITHIN)
        held.known.set()

    async def _watched(self, held: Held) -> None:
        while True:
            with contextlib.suppress(OutpaintError):
                await self.watch(held)
            await self._sleep(WATCH_SECONDS)

    async def finished(
        self, remote_id: str, client: str, painted: Painted, working: WorkingCanvas, most: int = MAX_IMAGES
    ) -> TaskUpdate:
        """The end of a client's order whose images are there: stored, in the size that was to be drawn, `most` of them.

        What has another size is a grid of them all, or no answer to what was asked.
        """
        update = await self._stored(remote_id, client, painted)
        if update.status is not Status.SUCCEEDED:
            return update
        size = working.padded_width, working.padded_height
        images = [one for one in update.images if None in (one.width, one.height) or (one.width, one.height) == size]
        if not images:
            other = update.images[0]
            message = f"{self.title} answered with {other.width}x{other.height} pixels in place of {size[0]}x{size[1]}."
            return self.failed(remote_id, UnexpectedResponseError(message))
        return replace(
            update,
            images=tuple(images[:most]),
            is_grid=len(images[:most]) > 1,
            reference=working.reference,
            cost=Cost(amount=0, unit="USD", usd=0),
        )

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        """An engine that breaks over an order says why; what stands before it asks for a login of its own."""
        if status == 401:
            advice = (
                f"Have the operator set {self.key_env} to what stands before it asks for, such as “Basic ” and "
                "user:password in base64."
            )
            return rejection(AuthenticationError, self.title, body, advice)
        if status != 500:
            return super().read_error(status, body)
        code, message = find_code(body), find_message(body)
        if "out of memory" in message.lower():
            advice = "Free memory there (other programs, a smaller model), or order fewer variants."
            return EngineFailedError(f"{self.title} is out of memory.", advice, provider_code=code)
        told = f": {quoted(message)}." if message else ", and says no more."
        return EngineFailedError(f"{self.title} failed over the order{told}", provider_code=code)


def named(names: Sequence[str]) -> str:
    """The first names of a list, and how many others there are."""
    more = f" and {len(names) - SHOWN_NAMES} others" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
