"""Sends requests to vendors over HTTP: one connection pool, timeouts, retries of reads, and what each failure means.

A read is retried. An order is sent once, and again only where the vendor keeps an idempotency key for it. What a
failure says about an order is decided in money.py: where nobody can know, the order may have been taken. The retries
are written here and not taken from a library, since they depend on `Retry-After`, on unreadable bodies and on that
table, which is most of what such a library would have to be told.
"""

import contextlib
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Generic, Literal, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, get_current_span, get_tracer

from outpaint_mcp.domain.errors import (
    KeyConflictError,
    OrderUnconfirmedError,
    OutpaintError,
    ProviderUnavailableError,
    UnexpectedResponseError,
)
from outpaint_mcp.domain.events import Observer
from outpaint_mcp.images.fetch import trusted_authorities
from outpaint_mcp.providers.calls import ApiCall, Endpoint
from outpaint_mcp.providers.http_answers import HttpAnswer, read_answer
from outpaint_mcp.providers.money import MAYBE_STATUSES, TAKEN_AFTER, Taken, proves_refusal, taken_by_status
from outpaint_mcp.providers.rejections import error_by_status

T = TypeVar("T")
logger = logging.getLogger(__name__)
MAX_ATTEMPTS: Final = 4
MAX_CONNECTIONS: Final = 64
"""At one vendor, for its orders, and as many for its polls and uploads."""
MAX_BACKOFF: Final = 10.0
FIRST_BACKOFF: Final = 0.5
_SAID_BY_FRONTS: Final = (413, 429)
"""Statuses that what stands before a vendor's servers gives with a page of its own, and which mean the same then."""
_BLOCKED: Final = (
    "Nothing was ordered, and the API key is not at fault. Try again later, have the operator check the base URL, "
    "proxy and network, or name another provider."
)
LONGEST_WAIT: Final = 30.0
"""Seconds. A longer `Retry-After` is not waited for here: the error carries it, and the next poll comes later."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read` and `write` limit one silence, `read_total` and `order_total` a whole request.

    An endpoint with a timeout for its orders (`Endpoint.order_seconds`) may be silent for all of it.
    """

    connect: float = 10.0
    pool: float = 10.0
    write: float = 30.0
    read: float = 30.0
    read_total: float = 60.0
    order_total: float = 90.0


@dataclass(frozen=True, slots=True)
class _Failed:
    """A request that failed: what that says about an order, and the error that it is for a read."""

    taken: Taken
    error: OutpaintError
    status: int | None = None
    may_retry: bool = True


class HttpClient:
    """Sends `ApiCall`s; one for the whole program, an async context manager.

    Args:
        transport: replaces the network (tests).
        sleep: waits for so many seconds.
        jitter: a random number from 0 to 1.
        clock: Unix time in seconds, for a `Retry-After` that is a date and for the time that a webhook names.
        timeouts: see `Timeouts`.
        observer: told of every request.
    """

    def __init__(
        self,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        timeouts: Timeouts | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._transport = transport
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._observer = observer or Observer()
        # A vendor that hangs uses up its own connections only, and polls never those of orders.
        self._sessions: dict[tuple[str, str, bool], httpx2.AsyncClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.aclose()

    def now(self) -> float:
        """Unix time in seconds."""
        return self._clock()

    async def read(self, endpoint: Endpoint, call: ApiCall, *, attempts: int = MAX_ATTEMPTS) -> Any:
        """Send a request that costs nothing, with retries; returns the JSON of the answer.

        Raises:
            OutpaintError: the vendor rejected it, or so many `attempts` failed. `retry_after` is set where the
                vendor named a time.
        """
        for attempt in itertools.count(1):
            outcome = await self._send(endpoint, call, "read")
            if isinstance(outcome, HttpAnswer):
                failed = _rejected(endpoint, outcome)
                if failed is None and not outcome.problem:
                    return outcome.body
                outcome = failed or _Failed(Taken.MAYBE, _unreadable(endpoint, outcome))
            if attempt >= attempts or not outcome.may_retry or not await self._wait(attempt, outcome.error):
                raise outcome.error
        raise AssertionError("unreachable")  # pragma: no cover

    async def order(
        self, endpoint: Endpoint, call: ApiCall, parse: Callable[[Any], T], *, idempotent: bool = False
    ) -> T:
        """Send an order, once; returns what `parse` makes of the answer.

        Args:
            endpoint: whom it is sent to.
            call: the order.
            parse: reads the answer's body. Whatever it raises, the order may have been taken.
            idempotent: whether the call carries a key under which the vendor gives the same answer again. Then it is
                sent again if the answer was lost.

        Raises:
            KeyConflictError: it was taken, or another under the same key was.
            OrderUnconfirmedError: it may or may not have been taken.
            OutpaintError: it was certainly not taken.
        """
        doubtful = False
        for attempt in itertools.count(1):
            outcome = await self._order_once(endpoint, call, parse, idempotent)
            if not isinstance(outcome, _Failed):
                return outcome.value
            if outcome.taken is Taken.NO and (not doubtful or proves_refusal(outcome.status, outcome.error)):
                raise outcome.error
            doubtful = True
            if not idempotent or attempt >= MAX_ATTEMPTS or not await self._wait(attempt, outcome.error):
                _raise_unconfirmed(endpoint, outcome)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _order_once(
        self, endpoint: Endpoint, call: ApiCall, parse: Callable[[Any], T], has_own_key: bool
    ) -> "_Failed | _Parsed[T]":
        outcome = await self._send(endpoint, call, "order")
        if isinstance(outcome, _Failed):
            return outcome
        failed = _rejected(endpoint, outcome, has_own_key)
        if failed is not None:
            return failed
        if outcome.problem:
            return _Failed(Taken.MAYBE, _unreadable(endpoint, outcome), outcome.status)
        try:
            return _Parsed(parse(outcome.body))
        except OutpaintError as error:
            return _Failed(Taken.MAYBE, _shown(endpoint, error, outcome.retry_after), outcome.status)
        except Exception as error:
            # A fault in a plug-in's reader changes nothing about the order, which was sent.
            logger.warning("%s: reading the answer to an order raised %s", endpoint.title, type(error).__name__)
            return _Failed(Taken.MAYBE, _unreadable(endpoint, outcome), outcome.status)

    async def _send(self, endpoint: Endpoint, call: ApiCall, kind: Literal["read", "order"]) -> HttpAnswer | _Failed:
        begun = time.perf_counter()
        label: object = "failed"
        with _span(endpoint, call, kind) as span:
            try:
                outcome, label = await self._exchange(endpoint, call, kind)
                return outcome
            finally:
                seconds = time.perf_counter() - begun
                path = call.path.partition("?")[0]
                logger.debug("%s %s: %s in %.0f ms", call.method, path, label, 1000 * seconds)
                self._observer.asked(endpoint.name or endpoint.title, kind, str(label), seconds)
                if isinstance(label, int):
                    span.set_attribute("http.response.status_code", label)
                if not (isinstance(label, int) and label < 400):
                    span.set_attribute("error.type", str(label))
                    span.set_status(StatusCode.ERROR)

    async def _exchange(
        self, endpoint: Endpoint, call: ApiCall, kind: Literal["read", "order"]
    ) -> tuple[HttpAnswer | _Failed, object]:
        """One request and its answer; also what it is logged as: a status, or the name of an error."""
        times = self._timeouts
        total, silence = times.read_total, times.read
        if kind == "order":
            total = endpoint.order_seconds or times.order_total
            # A vendor whose answer is the image is silent for as long as it works.
            silence = endpoint.order_seconds or times.read
        headers = httpx2.Headers({"accept": "application/json"})
        # Names are compared without case: what the call gives is sent in place of ours, not beside it.
        headers.update(endpoint.headers)
        headers.update(call.headers)
        try:
            with anyio.fail_after(total):
                session = self._session(endpoint, kind)
                request = session.build_request(
                    call.method,
                    (call.base_url or endpoint.base_url) + call.path,
                    headers=headers,
                    json=call.json,
                    data=call.form,
                    files=[(one.field_name, (one.file_name, one.data, one.mime_type)) for one in call.files] or None,
                    timeout=httpx2.Timeout(connect=times.connect, read=silence, write=times.write, pool=times.pool),
                )
                response = await session.send(request, stream=True, follow_redirects=False)
                try:
                    return await read_answer(response, endpoint, self._clock()), response.status_code
                finally:
                    await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            taken, words = next(entry for kind_, entry in TAKEN_AFTER.items() if isinstance(error, kind_))
            return _Failed(taken, ProviderUnavailableError(f"{endpoint.title} {words}.")), type(error).__name__

    async def _wait(self, attempt: int, error: OutpaintError) -> bool:
        """Sleep before the next attempt; False if the vendor wants a longer pause than `LONGEST_WAIT`."""
        pause = min(FIRST_BACKOFF * 2**attempt, MAX_BACKOFF) * (0.5 + self._jitter() / 2)
        if error.retry_after is not None:
            if error.retry_after > LONGEST_WAIT:
                return False
            pause = max(pause, error.retry_after)
        await self._sleep(pause)
        return True

    def _session(self, endpoint: Endpoint, kind: Literal["read", "order"]) -> httpx2.AsyncClient:
        """The connection pool of one vendor's orders, or of its reads."""
        key = endpoint.name or endpoint.title, kind, endpoint.is_near
        found = self._sessions.get(key)
        if found is not None:
            return found
        session = httpx2.AsyncClient(
            transport=self._transport,
            verify=trusted_authorities(),
            # A proxy would carry what is to stay here elsewhere, and cannot reach this machine anyway.
            trust_env=not endpoint.is_near,
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                # An order goes out on a fresh connection: one that the vendor is about to close would leave it unknown
                # whether the order was taken. Each idle connection is checked for every request, with two system calls.
                max_keepalive_connections=0 if kind == "order" else 10,
            ),
        )
        # A vendor's cookies are nobody's business: every request stands for itself.
        session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._sessions[key] = session
        return session


@dataclass(frozen=True, slots=True)
class _Parsed(Generic[T]):
    value: T


def _span(endpoint: Endpoint, call: ApiCall, kind: str) -> AbstractContextManager[Span]:
    """An OpenTelemetry span of a request, within the trace of the tool call that it is made for.

    The scheduler's polls belong to no call: each would be a trace of its own, so they get no span. Paths, which hold
    ids, and headers are never among the attributes.
    """
    if kind == "read" and not get_current_span().get_span_context().is_valid:
        return contextlib.nullcontext(INVALID_SPAN)
    name = endpoint.name or endpoint.title
    return get_tracer("outpaint-mcp").start_as_current_span(
        f"{kind} {name}",
        kind=SpanKind.CLIENT,
        attributes={
            "outpaint.provider": name,
            "http.request.method": call.method,
            "server.address": urlsplit(call.base_url or endpoint.base_url).hostname or "",
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def _rejected(endpoint: Endpoint, answer: HttpAnswer, has_own_key: bool = False) -> _Failed | None:
    """The failure that an answer means, or None if it is no rejection."""
    if (failed := _blocked(endpoint, answer, has_own_key)) is not None:
        return failed
    try:
        error = endpoint.read_error(answer.status, answer.body)
    except Exception as broken:
        # A fault in a plug-in's reader: the status still tells.
        logger.warning("%s: reading an answer for errors raised %s", endpoint.title, type(broken).__name__)
        error = None
    if answer.is_success:
        if error is None:
            return None
        # A rejection under a status of success. One that says "something broke here" is no better than a 5xx.
        taken = Taken.MAYBE if isinstance(error, ProviderUnavailableError) else Taken.NO
        return _Failed(taken, _shown(endpoint, error, answer.retry_after), answer.status, error.retryable)
    taken = taken_by_status(
        answer.status,
        has_retry_after=answer.retry_after is not None,
        # Where the vendor says what the conflict is, it is not about the key.
        has_own_key=has_own_key and error is None,
    )
    error = error or error_by_status(endpoint.title, answer.status, answer.body)
    may_retry = answer.status in MAYBE_STATUSES or answer.status == 429
    return _Failed(taken, _shown(endpoint, error, answer.retry_after), answer.status, may_retry)


def _blocked(endpoint: Endpoint, answer: HttpAnswer, has_own_key: bool) -> _Failed | None:
    """The failure that a web page in place of an answer means; None where there is none, or the status says more."""
    page = answer.page
    if page is None or not (page.is_challenge or answer.status in range(400, 600)) or answer.status in _SAID_BY_FRONTS:
        return None
    taken = taken_by_status(
        answer.status,
        has_retry_after=answer.retry_after is not None,
        has_own_key=has_own_key,
        is_challenge=page.is_challenge,
    )
    came = f"{'a challenge to browsers' if page.is_challenge else 'a web page'} came in place of its answer"
    came += f" (HTTP {answer.status}{f', {page.title!r}' if page.title else ''})"
    if taken is Taken.NO:
        error = ProviderUnavailableError(
            f"The request was blocked before it reached {endpoint.title}: {came}.", _BLOCKED
        )
    else:
        error = ProviderUnavailableError(f"{endpoint.title} cannot be reached: {came}.")
    return _Failed(taken, _shown(endpoint, error, answer.retry_after), answer.status, answer.status in MAYBE_STATUSES)


def _shown(endpoint: Endpoint, error: OutpaintError, retry_after: float | None) -> OutpaintError:
    """The same error with a message and code that are fit to be shown, and the answer's `Retry-After`."""
    code = endpoint.tidy_code(error.provider_code)
    after = error.retry_after if retry_after is None else retry_after
    return type(error)(endpoint.tidy(error.message), error.advice, provider_code=code, retry_after=after)


def _unreadable(endpoint: Endpoint, answer: HttpAnswer) -> OutpaintError:
    problem = answer.problem or "it is not what its documentation says"
    return UnexpectedResponseError(
        f"{endpoint.title} gave an answer that cannot be understood ({answer.status}): {problem}.",
        retry_after=answer.retry_after,
    )


def _raise_unconfirmed(endpoint: Endpoint, failed: _Failed) -> NoReturn:
    error = failed.error
    kind = KeyConflictError if failed.status == 409 else OrderUnconfirmedError
    raise kind(
        f"Whether {endpoint.title} took the order is not known: {error.message}",
        provider_code=error.provider_code,
        retry_after=error.retry_after,
    ) from error
