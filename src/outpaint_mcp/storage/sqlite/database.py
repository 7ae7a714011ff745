"""One SQLite file that several processes share: making it, opening it, and waiting for one's turn. Knows no table.

sqlite3 is imported when the file is opened and not before, since a server must answer `tools/list` quickly.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.private_files import make_folder

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
Migration = str | Callable[["sqlite3.Connection"], None]
"""SQL statements, or what they cannot say; run inside one transaction."""

BUSY_PAUSE_SECONDS = (0.001, 0.005)
"""How long to wait, by chance, before another look whether the file is free.

SQLite's own waiting ends at looks 0.1 s apart, which find a busy process between two transactions so rarely that it can
keep all others out for longer than they wait; and it does not wait at all while the file is being made.
"""

SETTLED_SECONDS = 2.0
"""How long after it was last written a file's time tells whether it was written since."""


class Database:
    """An SQLite file in WAL mode; made on first use.

    Args:
        path: the file; its folder is made with it.
        migrations: the schema, as the steps from each version to the next; the version is kept in
            ``PRAGMA user_version``.
        busy_seconds: how long to wait for another process that is writing.
    """

    def __init__(self, path: Path, *, migrations: Sequence[Migration], busy_seconds: float) -> None:
        self._path = path
        self._migrations = migrations
        self._busy_seconds = busy_seconds
        # One connection and one thread at a time: SQLite serialises writers anyway, and they wait for the disk.
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._limiter = anyio.CapacityLimiter(1)
        # Before 4.15 anyio's limiter lets a second one in that asks just while the first one's successor wakes up.
        self._turn = threading.Lock()
        # Looking one row up takes a tenth of a millisecond, and in WAL mode waits for no writer. In a thread it would
        # wait for the interpreter's lock again and again: seconds, while hundreds of clients are served.
        self._reader: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def aclose(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._connection is not None:
            await anyio.to_thread.run_sync(self._close, limiter=self._limiter)

    def _close(self) -> None:
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _run(
        self, work: "Callable[[sqlite3.Connection], T]", *, durable: bool = False, in_place: bool = False
    ) -> T:
        """Run `work`, one transaction or a few reads, in a thread; again while another process is writing.

        `in_place`: only if the file that was opened still is the one at its path.

        Raises:
            ConfigurationError: the file cannot be used, or was deleted or replaced.
        """

        def call() -> T:
            import sqlite3

            with self._turn, self._errors():
                until = time.monotonic() + self._busy_seconds
                while True:
                    try:
                        db = self._open()
                        if in_place:
                            self._check_place()
                        # FULL waits for the disk at each commit; what no money hangs on may be lost with the power.
                        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                        return work(db)
                    except sqlite3.OperationalError as error:
                        code = getattr(error, "sqlite_errorcode", 0)  # the module's own errors have none
                        if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                            raise
                    time.sleep(random.uniform(*BUSY_PAUSE_SECONDS))  # noqa: S311

        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def _state(self) -> "tuple[object, ...] | None":
        """What differs as soon as any process has written to the file; None while it may be written just now.

        Looking at the files' times costs no query: a program with nothing to do is to leave the disk alone.
        """
        found: list[object] = []
        for path in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                status = path.stat()
            except OSError:
                found.append(None)
                continue
            # A second write within one tick of the file system's clock would not show.
            if time.time() - status.st_mtime < SETTLED_SECONDS:
                return None
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
        # A file that is not there must be missed by whoever looks next.
        return tuple(found) if os.name == "posix" and found[0] is not None else None

    def _check_place(self) -> None:
        """Raises ConfigurationError if another file, or none, is where the open one was."""
        if _identity(self._path) != self._opened:
            raise ConfigurationError(
                f"The store {self._path.name} was deleted or replaced while the server runs.",
                "Nothing was ordered. Have the operator restart the server, with the folder in place.",
            )

    async def _look_up(self, work: "Callable[[sqlite3.Connection], T]") -> T:
        """Run `work`, which reads a few rows, here and now; in the writer's turn if that cannot be at once."""
        if self._connection is None:
            return await self._run(work)
        await anyio.lowlevel.checkpoint()
        import sqlite3

        try:
            if self._reader is None:
                self._reader = self._connected()
                self._reader.execute("PRAGMA query_only = ON")
            # As one transaction: what it reads belongs together.
            self._reader.execute("BEGIN")
            try:
                return work(self._reader)
            finally:
                self._reader.execute("COMMIT")
        except sqlite3.Error:
            return await self._run(work)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"The store {self._path.name} cannot be used: {error}.",
                "Nothing was ordered. Have the operator check OUTPAINT_DATA_DIR: its disk space, its permissions "
                "and whether another program holds the file.",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"The data folder cannot be used: {error.strerror}.",
                "Nothing was ordered. Have the operator check OUTPAINT_DATA_DIR.",
            ) from error

    def _connected(self) -> "sqlite3.Connection":
        import sqlite3

        # It waits for nobody: see BUSY_PAUSE_SECONDS.
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)

    def _open(self) -> "sqlite3.Connection":
        if self._connection is not None:
            return self._connection
        # Prompts stand in it: it is its owner's alone, and SQLite makes its other files like it.
        make_folder(self._path.parent)
        # One that is there is left alone: closing it would drop the locks that another connection of this process has.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        db = self._connected()
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA foreign_keys = ON")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        self._connection = db
        self._opened = _identity(self._path)
        return db

    def _migrate(self, db: "sqlite3.Connection") -> None:
        if _version(db) == len(self._migrations):
            return
        with transaction(db):
            # Read again inside the transaction: another process may have migrated the file meanwhile.
            self._check_version(db)
            for step in self._migrations[_version(db) :]:
                if callable(step):
                    step(db)
                    continue
                for statement in step.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(self._migrations)}")

    def _check_version(self, db: "sqlite3.Connection") -> None:
        """Raises ConfigurationError if a newer version of the program has migrated the file, maybe since it was opened.

        To be asked in the transaction that depends on it.
        """
        if (version := _version(db)) > len(self._migrations):
            raise ConfigurationError(
                f"The store {self._path.name} was written by a newer outpaint-mcp (schema {version}, "
                f"this one knows {len(self._migrations)}).",
                "Nothing was ordered. Update outpaint-mcp and restart it, or give it another OUTPAINT_DATA_DIR.",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, whatever its name: device and inode; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _version(db: "sqlite3.Connection") -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(db: "sqlite3.Connection") -> Iterator[None]:
    """A block that is one transaction, alone among the writers; rolled back if it is left by an error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk makes SQLite roll back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
