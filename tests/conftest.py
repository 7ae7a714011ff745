"""What all tests share. Nothing here reaches beyond this machine."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest
from tests.postgres_server import PostgresServer, is_missing, running_postgres
from tests.preloading import Preloaded, running_preloaded
from tests.s3_server import S3Server, running_s3

from outpaint_mcp.storage.postgres.admin import upgrade_database

NOBODY = 65534
# Before NumPy is imported. On small pictures its threads mostly wait for each other, which takes all processors; those
# that draw for the program have one too.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[variable] = "1"
# What is started in the background of a shell ignores it, and so would every process that a test interrupts.
with contextlib.suppress(ValueError):
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files are no names: some differ from process to process, by the time that stands in them."""
    return argname if isinstance(val, bytes) and len(val) > 40 else None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder_of_an_ordinary_user() -> Iterator[Path]:
    """A folder, and for the time of the test this process has the rights of a user whom modes of files bind."""
    if not hasattr(os, "setresuid"):
        pytest.skip("this system's files have no modes")
    before = os.getresuid()
    with tempfile.TemporaryDirectory() as name:
        if before[0] == 0:
            os.chown(name, NOBODY, -1)
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(name)
        finally:
            os.setresuid(*before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server with the database ``prepared``, which has the store's tables."""
    if is_missing():
        pytest.skip("needs PostgreSQL's server")
    with running_postgres() as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE prepared")
        anyio.run(upgrade_database, server.url("prepared"))
        yield server


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    """An empty store in PostgreSQL, of this test alone."""
    return postgres_server.new_database(template="prepared")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An object store, which starts in some two seconds."""
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Starts processes of the program that are about something else than how it starts."""
    if sys.platform == "win32":
        pytest.skip("needs processes that fork")
    with running_preloaded() as start:
        yield start
