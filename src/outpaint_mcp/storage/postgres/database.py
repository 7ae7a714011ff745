"""One PostgreSQL database: its connections, what they wait for, and trying again after one was lost. Knows no table.

psycopg (https://www.psycopg.org/psycopg3/docs/) is imported here and in this folder only, and this folder only where
`OUTPAINT_DATABASE_URL` is set.
"""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from outpaint_mcp.domain.clock import SystemClock
from outpaint_mcp.domain.errors import ConfigurationError

T = TypeVar("T")
Connection = AsyncConnection[tuple[object, ...]]

AGAIN_SECONDS: Final = 8.0
"""For how long a lost connection is tried again: a restart of the database takes a second or two."""
PAUSE_SECONDS: Final = (0.05, 0.25)
"""How long it waits, by chance, between two tries."""
TURN_SECONDS: Final = 0.5
"""For how long a free connection is waited for before the pool is asked once more, which then tries to connect."""
MOST_CONNECTIONS: Final = 8
"""Of one process. Its transactions take a millisecond each: more would wait in the database instead of here."""
CONNECTION: Final[dict[str, str | int]] = {
    "application_name": "outpaint-mcp",
    "connect_timeout": 3,
    # A connection whose other end is gone without a word is noticed within these, in seconds and milliseconds.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
LIMITS: Final = (
    "SELECT set_config('statement_timeout', '10s', false), set_config('lock_timeout', '5s', false),"
    " set_config('idle_in_transaction_session_timeout', '10s', false)"
)
"""A transaction that is left open makes the due table several times as slow for everybody (measured: 5 times, 60 s)."""
_STALE_SECONDS: Final = 0.25
"""A look at the database's clock that took longer tells little of it."""


class DatabaseClock(SystemClock):
    """The database's clock, as far as it is known: what is due when must not hang on the clock of each machine.

    Between two looks at it the machine's monotonic clock goes on, which nobody sets.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None

    def now(self) -> float:
        return super().now() if self._ahead is None else self.monotonic() + self._ahead

    def set(self, now: float, *, asked_at: float) -> None:
        """Note what the database said.

        Args:
            now: its time, in seconds since the epoch.
            asked_at: when it was asked, by the monotonic clock.
        """
        answered_at = self.monotonic()
        if self._ahead is None or answered_at - asked_at < _STALE_SECONDS:
            self._ahead = now - (asked_at + answered_at) / 2


class Database:
    """The connections of one process, opened on first use.

    Args:
        url: a connection URI of libpq's; a password may stand in it, so it is never shown.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._listening: Connection | None = None
        self._opening = anyio.Lock()
        self.clock = DatabaseClock()

    async def aclose(self) -> None:
        if self._listening is not None:
            await self._listening.close()
            self._listening = None
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _prepare(self, connection: Connection) -> None:
        """What is done once over a connection before the first work. For whoever knows the tables."""

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, again_seconds: float = AGAIN_SECONDS) -> T:
        """Run `work` over a connection; from its beginning again if that is lost, as long as there is time.

        It must be fit for that: a transaction that was lost while it was committed may have been. It is not interrupted
        by a call that ends meanwhile.

        Raises:
            ConfigurationError: the database cannot be used.
        """
        until = time.monotonic() + again_seconds
        with anyio.CancelScope(shield=True):
            done = await self._try(work, until)
        return done

    async def _try(self, work: Callable[[Connection], Awaitable[T]], until: float) -> T:
        while True:
            try:
                pool = await self._open()
                async with pool.connection(timeout=TURN_SECONDS) as connection:
                    return await work(connection)
            except psycopg.Error as error:
                if not is_passing(error) or time.monotonic() >= until:
                    raise unusable(error) from error
            await anyio.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311

    async def _open(self) -> "AsyncConnectionPool[Connection]":
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                # What is wrong with the address is told at once by one connection, and by a pool never.
                async with await self._connect() as connection:
                    await self._prepare(connection)
                pool = AsyncConnectionPool(
                    self._url,
                    connection_class=Connection,
                    kwargs={**CONNECTION, "autocommit": True},
                    configure=_limit,
                    min_size=1,
                    max_size=MOST_CONNECTIONS,
                    # Then the next use tries at once, where the pool by itself would wait ever longer.
                    reconnect_timeout=1.0,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool

    async def _connect(self) -> Connection:
        connection = await Connection.connect(self._url, autocommit=True, **CONNECTION)  # type: ignore[arg-type]
        await _limit(connection)
        return connection


async def _limit(connection: Connection) -> None:
    await connection.execute(LIMITS)


def is_passing(error: psycopg.Error) -> bool:
    """Whether the same may work in a moment.

    That is after a connection was lost or refused, while all are in use, and after two transactions were in each
    other's way.
    """
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
        return True
    state = error.sqlstate
    # No state: libpq lost the connection, or could not make one. 57P: the server is shut down or starts; 08: the
    # connection's own class. See https://www.postgresql.org/docs/current/errcodes-appendix.html.
    return isinstance(error, psycopg.OperationalError) and (state is None or state[:3] == "57P" or state[:2] == "08")


def unusable(error: psycopg.Error) -> ConfigurationError:
    """That the database cannot be used, in its own words."""
    said = " ".join(str(error).split())
    return ConfigurationError(
        f"The database cannot be used: {said or type(error).__name__}.",
        "Nothing was ordered. Have the operator check OUTPAINT_DATABASE_URL (outpaint-mcp db check) and the database.",
    )
