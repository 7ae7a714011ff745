"""The browser and the servers that the tests of a module share."""

import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, so that servers can outlive a test."""
    return "asyncio"
