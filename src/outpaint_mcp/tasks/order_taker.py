"""Takes orders: reads what a request names, resolves it, and finds or makes the task that stands for the order.

Both can be slow (a host, a vendor, a busy store), and a call that may not wait so long leaves them at work.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace

import anyio

from outpaint_mcp.domain.errors import BudgetExceededError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.record import UNSENT_SECONDS, OrderState, Record
from outpaint_mcp.domain.request import AUTO, OutpaintRequest
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.background import Background
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.lifecycle import TaskLifecycle
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.resolver import Resolver
from outpaint_mcp.tasks.sending import OrderSender
from outpaint_mcp.tasks.source_finder import SourceFinder
from outpaint_mcp.tasks.transitions import new_id, new_record

Ask = Callable[[str], Awaitable[bool]]
"""Puts a question to the user; whether they say yes."""


class OrderTaker:
    """From a request to its task.

    Args:
        ledger: where tasks are written down.
        sources: finds what requests name.
        resolver: says what a request comes to.
        sender: places the orders.
        lifecycle: advances tasks.
        background: where slow work goes on.
        providers: by name.
        options: the operator's.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        sources: SourceFinder,
        resolver: Resolver,
        sender: OrderSender,
        lifecycle: TaskLifecycle,
        background: Background,
        providers: Mapping[str, Provider],
        options: ServiceOptions,
    ) -> None:
        self._ledger = ledger
        self._sources = sources
        self._resolver = resolver
        self._sender = sender
        self._lifecycle = lifecycle
        self._background = background
        self._providers = providers
        self._options = options

    async def read(
        self, request: OutpaintRequest, client: str, seconds: float
    ) -> tuple[Order, tuple[str, ...], tuple[str, ...]]:
        """The order that a request comes to, with notes on how the request was read and on the order.

        Nothing is ordered yet.

        Raises:
            NotReadyError: its source could not be read in `seconds`; the same request goes on with it.
            OutpaintError: the request is refused.
        """

        async def read() -> tuple[Order, tuple[str, ...], tuple[str, ...]]:
            async with anyio.create_task_group() as looking:
                for name, provider in self._providers.items():
                    if request.provider in (AUTO, name):
                        looking.start_soon(provider.locate)
            named, told = await self._sources.named(request, client)
            self._resolver.check(named)
            order, notes = self._resolver.resolve(named, await self._sources.find(named, client))
            return order, told, notes

        return await self._background.within(seconds, read, client=client, key=_hash(request), what="Reading the image")

    async def confirm(self, order: Order, client: str, ask: Ask, *, repeat: bool) -> None:
        """Have the user asked about an order that costs more than the operator lets pass, or nobody knows how much.

        What was placed before costs nothing, and nobody is asked.

        Raises:
            BudgetExceededError: the user does not want it, or did not say so.
        """
        limit, provider = self._options.confirm_above_usd, self._providers[order.provider]
        if limit is None or not provider.costs_money:
            return
        prices = self._prices(order)
        known = [price for price in prices if price is not None]
        if len(known) == len(prices) and sum(known) <= limit:
            return
        if await self._ledger.store.stands(order, client, now=self._ledger.clock.now(), repeat=repeat):
            return
        price = f"about ${sum(known):.2f}" if len(known) == len(prices) else "a price that is not known here"
        steps = ", then ".join(step.value for step in order.steps)
        if not await ask(f"Order this from {provider.title} ({steps}) for {price}?"):
            raise BudgetExceededError(
                f"The user has not confirmed this order from {provider.title} for {price}.",
                "Nothing was ordered. Ask the user what to do, and make the call again only if they want it.",
            )

    async def take(
        self, order: Order, notes: tuple[str, ...], client: str, seconds: float, *, repeat: bool
    ) -> tuple[Record, bool]:
        """The task that stands for an order, and whether it is new. What is to be sent is on its way.

        Raises:
            NotReadyError: the store did not answer in `seconds`; the order may be placed nevertheless.
            OutpaintError: the order is refused.
        """

        async def take() -> tuple[Record, bool]:
            record, may_send = await self._claim(order, notes, client, repeat=repeat)
            if may_send:
                self._sender.place(record, order)
            elif record.steps[0].state is OrderState.INTENDED and not record.task.status.is_final:
                self._sender.place_when_free(record, order)
            else:
                await self._lifecycle.wanted(record)
            return record, may_send

        return await self._background.within(seconds, take, client=client, key=new_id(), what="Writing the order down")

    async def _claim(self, order: Order, notes: tuple[str, ...], client: str, *, repeat: bool) -> tuple[Record, bool]:
        """The task that stands for an order, and whether its first order is ours to send."""
        provider = self._providers[order.provider]
        prices = self._prices(order)

        async def claim() -> tuple[Record, bool]:
            return await self._ledger.store.claim(
                new_record(order, notes, client, prices, self._ledger.now(), self._ledger.clock.uptime()),
                now=self._ledger.clock.now(),
                repeat=repeat,
                limits=self._options.daily_limits,
                count_orders=provider.costs_money,
            )

        record, may_send = await claim()
        if may_send and self._ledger.age(record) >= UNSENT_SECONDS:
            # Intended long ago and never sent: it is released, and this is an order of today.
            self._ledger.store.let_go(record.task.id)
            await self._lifecycle.advance(record.task.id)
            return await claim()
        return record, may_send

    def _prices(self, order: Order) -> list[float | None]:
        """What each step costs in USD; None where nobody says."""
        usd = self._providers[order.provider].usd_for(order)
        return [self._options.prices.get(order.provider, usd.get(step)) for step in order.steps]


def _hash(request: OutpaintRequest) -> str:
    """Of all fields of a request, also of those that its own repr leaves out since they are megabytes, or secret."""
    parts = (replace(request, image=None), request.webhook)
    values = [getattr(part, field.name) for part in parts if part is not None for field in fields(part)]
    found = hashlib.sha256(repr((request.image is None, values)).encode(errors="backslashreplace"))
    found.update((request.image or "").encode(errors="backslashreplace"))
    return found.hexdigest()
