"""A PostgreSQL server of one's own, in a temporary folder, that only this machine's users reach, by a socket."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, LiteralString

import psycopg


def _programs() -> Path | None:
    """Where initdb and pg_ctl lie; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


PROGRAMS = _programs()


class PostgresServer:
    """A server in `folder`, whose name is short: a socket's path has 107 bytes at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._numbers = count()
        self._turn = threading.Lock()
        # It refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._call("initdb", "-D", self._data, "-U", "outpaint", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _call(self, program: str, *arguments: str | Path) -> None:
        assert PROGRAMS is not None, "PostgreSQL's server is not installed"
        user: dict[str, Any] = {}
        if self._user is not None:
            user = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with (self._folder / "log").open("ab") as log:
            subprocess.run(
                [PROGRAMS / program, *arguments], check=True, stdout=log, stderr=log, cwd=self._folder, **user
            )

    def start(self) -> None:
        # Nobody needs what is written to survive this machine; what is tested is the death of processes.
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off -c max_connections=200"
        # What is committed without waiting is written as late as can be: a crash loses it, as it may.
        options += " -c wal_writer_delay=10s -c wal_writer_flush_after=0"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "server.log", "-o", options, "start")

    @property
    def pid(self) -> int:
        """Of the process that starts the others."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """As a crash: nothing is finished, and the next start recovers."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def crash(self) -> None:
        """Stop, and start again."""
        with self._turn:
            self.stop()
            self.start()

    def url(self, database: str) -> str:
        return f"postgresql://outpaint@/{database}?host={self._folder}"

    def new_database(self, template: str = "template1") -> str:
        """The URL of a database that was just made."""
        name = f"test_{next(self._numbers)}"
        with self._turn, psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def rows(self, url: str, query: LiteralString) -> list[tuple[Any, ...]]:
        """What a query finds in a database, not while the server crashes in another thread."""
        with self._turn, psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()


def is_missing() -> bool:
    """Whether tests of it are to be skipped."""
    return PROGRAMS is None and "OUTPAINT_TEST_EVERYTHING" not in os.environ


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
