"""What all tests share. Nothing here reaches beyond this machine."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
