"""Sends `ApiCall`s to vendors: one shared session, time-outs, retries of reads, error mapping. The only module that
does HTTP to vendors; it knows no vendor, and of an order only whether it may have been taken.

A read may be asked again, an order never is unless the vendor keeps a key for it. So the one thing that this module
must get right is what each failure says about the order (`TAKEN_AFTER` and `taken_by_status`): where nobody can know,
the answer is "maybe". The retries are written here and not taken from a library, since they hang on `Retry-After`, on
unreadable bodies and on that table, which is most of what such a library would have to be told.
"""

import contextlib
import itertools
import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
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
from outpaint_mcp.domain.redaction import hide
from outpaint_mcp.providers.money import MAYBE_STATUSES, SAME_EVERY_TIME, TAKEN_AFTER, Taken, taken_by_status
from outpaint_mcp.providers.rejections import error_by_status

T = TypeVar("T")
logger = logging.getLogger(__name__)
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_MESSAGE: Final = 300
MAX_ATTEMPTS: Final = 4
MAX_BACKOFF: Final = 10.0
FIRST_BACKOFF: Final = 0.5
LONGEST_WAIT: Final = 30.0
"""Seconds. A longer `Retry-After` is not slept out here: the error carries it, and whoever asks comes back later."""


@dataclass(frozen=True, slots=True)
class UploadFile:
    """One file of a multipart request: the form field's name, a file name, its type and its bytes."""

    field_name: str
    file_name: str
    mime_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One HTTP request to a vendor, without the base URL and the key: `path` begins with a slash."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    json: Mapping[str, Any] | None = None
    file: UploadFile | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A vendor as this module sees it. `headers` hold the key; `secrets` is what else must not come back in a message.

    `read_error` gives the error that an answer means (also one with status 200), or None to go by the status alone.
    """

    title: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    read_error: Callable[[int, Any], OutpaintError | None] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    name: str = ""
    """What it is called where requests are counted and traced."""

    def tidy(self, text: str) -> str:
        """A vendor's text, fit to be shown: one line, at most `MAX_MESSAGE` characters, none of our secrets."""
        keys = [value.removeprefix("Bearer ") for value in self.headers.values()]
        text = hide(text, (*keys, *self.secrets))
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read` and `write` are for one silence, `read_total` and `order_total` for a whole request."""

    connect: float = 10.0
    pool: float = 10.0
    write: float = 30.0
    read: float = 30.0
    read_total: float = 60.0
    order_total: float = 90.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that came: `body` is the JSON, or None where there is none; `problem` says why."""

    status: int
    retry_after: float | None
    body: Any = field(repr=False)
    problem: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class _Failed:
    """A request that did not work out: what that says about an order, and the error that it is for a read."""

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
        clock: Unix time in seconds, for a `Retry-After` that is a date.
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
        self._session: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def read(self, endpoint: Endpoint, call: ApiCall) -> Any:
        """Ask something that costs nothing, again if need be; returns the JSON of the answer.

        Raises:
            OutpaintError: the vendor refused, or could not be asked in `MAX_ATTEMPTS` attempts. `retry_after` is set
                where the vendor named a time.
        """
        for attempt in itertools.count(1):
            outcome = await self._send(endpoint, call, "read")
            if isinstance(outcome, _Answer):
                failed = _refused(endpoint, outcome)
                if failed is None and not outcome.problem:
                    return outcome.body
                outcome = failed or _Failed(Taken.MAYBE, _unreadable(endpoint, outcome))
            if attempt >= MAX_ATTEMPTS or not outcome.may_retry or not await self._wait(attempt, outcome.error):
                raise outcome.error
        raise AssertionError("unreachable")  # pragma: no cover

    async def order(
        self, endpoint: Endpoint, call: ApiCall, parse: Callable[[Any], T], *, idempotent: bool = False
    ) -> T:
        """Send an order, once; returns what `parse` makes of the answer.

        `idempotent`: the call carries a key under which the vendor gives the same answer again, so a lost answer is
        asked for again.

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
            if outcome.taken is Taken.NO and (not doubtful or outcome.status in SAME_EVERY_TIME):
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
        failed = _refused(endpoint, outcome, has_own_key)
        if failed is not None:
            return failed
        if outcome.problem:
            return _Failed(Taken.MAYBE, _unreadable(endpoint, outcome), outcome.status)
        try:
            return _Parsed(parse(outcome.body))
        except OutpaintError as error:
            return _Failed(Taken.MAYBE, _shown(endpoint, error, outcome.retry_after), outcome.status)
        except Exception as error:
            # Whatever a plug-in's reader stumbles over, the order is out all the same.
            logger.warning("%s: the answer to an order broke its reader (%s)", endpoint.title, type(error).__name__)
            return _Failed(Taken.MAYBE, _unreadable(endpoint, outcome), outcome.status)

    async def _send(self, endpoint: Endpoint, call: ApiCall, kind: Literal["read", "order"]) -> _Answer | _Failed:
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
    ) -> tuple[_Answer | _Failed, object]:
        """One request and its answer; also what the request is put down as, a status or a kind of failure."""
        total = self._timeouts.order_total if kind == "order" else self._timeouts.read_total
        try:
            with anyio.fail_after(total):
                request = self._http().build_request(
                    call.method,
                    endpoint.base_url + call.path,
                    headers={"accept": "application/json", **endpoint.headers, **call.headers},
                    json=call.json,
                    files=None
                    if call.file is None
                    else {call.file.field_name: (call.file.file_name, call.file.data, call.file.mime_type)},
                )
                response = await self._http().send(request, stream=True, follow_redirects=False)
                try:
                    return await self._read_answer(response), response.status_code
                finally:
                    await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            taken, words = next(entry for kind_, entry in TAKEN_AFTER.items() if isinstance(error, kind_))
            return _Failed(taken, ProviderUnavailableError(f"{endpoint.title} {words}.")), type(error).__name__

    async def _read_answer(self, response: httpx2.Response) -> _Answer:
        retry_after = _retry_after(response.headers.get("retry-after"), self._clock())
        body, problem = None, ""
        try:
            body = _parse_json(await _read_capped(response))
        except ValueError as error:
            problem = str(error)
        except httpx2.HTTPError:
            if response.is_success:
                raise
            # The status has come, and it says enough.
            problem = "its body was broken off"
        return _Answer(response.status_code, retry_after, body, problem)

    async def _wait(self, attempt: int, error: OutpaintError) -> bool:
        """Sleep before the next attempt; False if the vendor wants a longer pause than can be waited for here."""
        pause = min(FIRST_BACKOFF * 2**attempt, MAX_BACKOFF) * (0.5 + self._jitter() / 2)
        if error.retry_after is not None:
            if error.retry_after > LONGEST_WAIT:
                return False
            pause = max(pause, error.retry_after)
        await self._sleep(pause)
        return True

    def _http(self) -> httpx2.AsyncClient:
        if self._session is None:
            times = self._timeouts
            self._session = httpx2.AsyncClient(
                transport=self._transport,
                timeout=httpx2.Timeout(connect=times.connect, read=times.read, write=times.write, pool=times.pool),
                # Each idle connection is looked at for every request, with two system calls.
                limits=httpx2.Limits(max_connections=100, max_keepalive_connections=10),
            )
            # A vendor's cookies are nobody's business: every request stands for itself.
            self._session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self._session


@dataclass(frozen=True, slots=True)
class _Parsed(Generic[T]):
    value: T


def _span(endpoint: Endpoint, call: ApiCall, kind: str) -> AbstractContextManager[Span]:
    """An OpenTelemetry span of a request: part of the trace of the call that it is made for, if there is one.

    Polls are made for nobody in particular: they would be a trace each, and get none. Neither a path, in which ids
    stand, nor a header is among the attributes.
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
            "server.address": urlsplit(endpoint.base_url).hostname or "",
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def _refused(endpoint: Endpoint, answer: _Answer, has_own_key: bool = False) -> _Failed | None:
    """The failure that an answer is, or None if it is none."""
    try:
        error = endpoint.read_error(answer.status, answer.body)
    except Exception as broken:
        # Whatever a plug-in's reader stumbles over: the status still tells.
        logger.warning("%s: an answer broke its reader of errors (%s)", endpoint.title, type(broken).__name__)
        error = None
    if answer.is_success:
        if error is None:
            return None
        # A refusal in words. One that says "something broke here" is no better than a 5xx.
        taken = Taken.MAYBE if isinstance(error, ProviderUnavailableError) else Taken.NO
        return _Failed(taken, _shown(endpoint, error, answer.retry_after), answer.status, error.retryable)
    taken = taken_by_status(
        answer.status,
        has_retry_after=answer.retry_after is not None,
        # Where the vendor's words say what the conflict is, it is not about the key.
        has_own_key=has_own_key and error is None,
    )
    error = error or error_by_status(endpoint.title, answer.status, answer.body)
    may_retry = answer.status in MAYBE_STATUSES or answer.status == 429
    return _Failed(taken, _shown(endpoint, error, answer.retry_after), answer.status, may_retry)


def _shown(endpoint: Endpoint, error: OutpaintError, retry_after: float | None) -> OutpaintError:
    """The same error, fit to be shown."""
    code = None if error.provider_code is None else endpoint.tidy(error.provider_code)
    after = error.retry_after if retry_after is None else retry_after
    return type(error)(endpoint.tidy(error.message), error.advice, provider_code=code, retry_after=after)


def _unreadable(endpoint: Endpoint, answer: _Answer) -> OutpaintError:
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


async def _read_capped(response: httpx2.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise ValueError(f"it is longer than {MAX_BODY_BYTES // 1024 // 1024} MiB")
        parts.append(part)
    return b"".join(parts)


def _parse_json(data: bytes) -> Any:
    """
    Raises:
        ValueError: it is no JSON that can be kept: no text, too deep, NaN, or half a character in a string.
    """
    try:
        body = json.loads(data, parse_constant=_no_constant)
        if re.search(rb"\\u[dD][89a-fA-F]", data):
            # A lone surrogate can be read, but neither stored nor shown.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON" if data.strip() else "it is empty") from None
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _retry_after(header: str | None, now: float) -> float | None:
    """Seconds from `now`; None where the header is missing or cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
