"""Fills a file with the image at an http(s) URL."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio.to_thread

from outpaint_mcp.images import files
from outpaint_mcp.images.documents import refuse_document
from outpaint_mcp.images.fetch import ImageFetcher

_WRITE_BYTES: Final = 1 << 20

Fill = Callable[[Path], Awaitable[None]]
"""Writes an image into an empty file."""


def download(fetcher: ImageFetcher, url: str) -> Fill:
    """What writes the image at `url`; it raises what `ImageFetcher.fetch` does."""

    async def fill(part: Path) -> None:
        buffered = bytearray()

        async def write(piece: bytes) -> None:
            # A hop to a thread for every packet would take longer than the packets.
            buffered.extend(piece)
            if len(buffered) >= _WRITE_BYTES:
                await write_out()

        async def write_out() -> None:
            await anyio.to_thread.run_sync(files.append, part, bytes(buffered))
            buffered.clear()

        fetched = await fetcher.fetch(url, write)
        await write_out()
        await anyio.to_thread.run_sync(refuse_document, part, fetched.host, fetched.mime_type)

    return fill
