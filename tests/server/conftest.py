"""What tests of the server share."""

import pytest

from outpaint_mcp.images import library

from ..decoding import LibraryInThisProcess


@pytest.fixture
def decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about images: services that are opened decode in this process."""
    monkeypatch.setattr(library, "ImageLibrary", LibraryInThisProcess)
