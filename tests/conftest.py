"""What all tests share. Nothing here reaches beyond this machine."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534
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
