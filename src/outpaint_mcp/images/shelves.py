"""Where images lie: two folders on this machine, and behind them the bucket that several machines share, if one is set.

With a bucket that is the place of all images, and the folders hold copies of those that were wanted here.
"""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from outpaint_mcp.domain.bucket_url import BucketUrl
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError
from outpaint_mcp.images import files
from outpaint_mcp.images.pruning import prune_folders

if TYPE_CHECKING:
    from outpaint_mcp.images.bucket import Bucket

_LIST_SECONDS: Final = 6 * 3600.0
"""How rarely the bucket is listed for what is too old: every server does it."""


AtHand = Callable[[Path], Awaitable[Path]]
"""Gives the path back once the image is there.

Raises OutpaintError if it cannot be fetched now.
"""


async def as_it_is(path: Path) -> Path:
    """For images that are all on this machine."""
    return path


def open_bucket(url: str | None, *, plain_http: bool) -> "Bucket | None":
    """The bucket at `url`, if there is one.

    Args:
        url: as `OUTPAINT_IMAGES_URL` names it.
        plain_http: whether it may be reached without TLS.

    Raises:
        ConfigurationError: obstore is not installed, or cannot use what is set.
    """
    if url is None:
        return None
    try:
        from outpaint_mcp.images.bucket import Bucket
    except ImportError:
        raise ConfigurationError(
            "Images in a bucket need the package obstore.",
            "Install outpaint-mcp[platform], or unset OUTPAINT_IMAGES_URL.",
        ) from None
    return Bucket.open(BucketUrl.parse(url), plain_http=plain_http)


class Shelves:
    """The images by their files' names, which are their contents' hashes.

    Args:
        folder: the folder of the folders.
        bucket: what is shared with other machines.
    """

    def __init__(self, folder: Path, bucket: "Bucket | None" = None) -> None:
        self.sources = folder / "sources"
        self.images = folder / "images"
        self._incoming = folder / "incoming"
        self._bucket = bucket
        self._owed_folder = folder / "owed"
        self._owed: set[str] | None = None
        self._coming: dict[str, anyio.Lock] = {}
        self._listed_at = -_LIST_SECONDS

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Path]:
        """A unique name for a new file, which the block moves away; if the block fails, the file is deleted.

        Raises:
            ConfigurationError: the folder cannot be written.
        """
        part = self._incoming / secrets.token_hex(16)
        try:
            await _in_thread(files.make_part, part)
        except OSError as error:
            raise files.cannot_store(error) from error
        try:
            yield part
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.Path(part).unlink(missing_ok=True)
            raise

    async def put(self, part: Path, folder: Path, name: str) -> None:
        """Move a file that was checked into `folder`, after the bucket has it.

        Raises:
            OutpaintError: the bucket does not take it now.
            OSError: the folder does not.
        """
        if self._bucket is not None:
            await self._bucket.put(name, part)
        await _in_thread(files.move_to, part, folder / name)

    async def put_here(self, part: Path, folder: Path, name: str) -> bool:
        """The same of an image that is nowhere else: it is kept here in any case, and owed to a bucket that is away.
        Returns whether that has it.
        """
        try:
            await self.put(part, folder, name)
            return True
        except OutpaintError:
            await _in_thread(files.move_to, part, folder / name)
            await self.owe(folder / name)
            return False

    async def owe(self, path: Path) -> None:
        """Note that the bucket is to have an image which it does not take just now, also after a restart."""
        if self._bucket is not None:
            await _in_thread(files.link_into, path, self._owed_folder)
            if self._owed is not None:
                self._owed.add(path.name)

    async def put_owed(self) -> None:
        """Put what is owed into the bucket, as far as it takes it."""
        if self._bucket is None:
            return
        if self._owed is None:
            self._owed = await _in_thread(files.names_of, self._owed_folder)
        for name in sorted(self._owed):
            path = self._owed_folder / name
            try:
                with suppress(FileNotFoundError):
                    await self._bucket.put(name, path)
            except OutpaintError:
                return
            await anyio.Path(path).unlink(missing_ok=True)
            self._owed.discard(name)

    async def find(self, name: str, *folders: Path) -> Path:
        """The file of an image in the first of these folders that has it; fetched into the first one if none has.

        If the bucket has no such image either, no file is where the path leads.

        Raises:
            OutpaintError: the bucket does not answer, or the folder cannot be written.
        """
        here = [folder / name for folder in folders]
        for path in here:
            if await anyio.Path(path).exists():
                return path
        if self._bucket is None:
            return here[0]
        lock = self._coming.setdefault(name, anyio.Lock())
        try:
            async with lock:
                if not await anyio.Path(here[0]).exists():
                    await self._fetch(self._bucket, name, here[0])
                return here[0]
        except OSError as error:
            raise files.cannot_store(error) from error
        finally:
            if not lock.statistics().tasks_waiting:
                self._coming.pop(name, None)

    async def _fetch(self, bucket: "Bucket", name: str, path: Path) -> None:
        async with self.part() as part:
            put_at = await bucket.fetch(name, part)
            if put_at is None:
                await anyio.Path(part).unlink()
            else:
                # Its copies here grow old with it.
                await _in_thread(files.move_to, part, path, put_at)

    async def prune(self, *, oldest: float, max_bytes: int, keep: Collection[str], shared: bool) -> int:
        """Delete what was stored before `oldest` (seconds since the epoch), and then the oldest until `max_bytes` are
        left here; and in the bucket, if `shared`, what was stored before `oldest`.

        `keep` are the SHA-256 of images that stay. Returns how many were deleted.
        """
        folders = self.sources, self.images
        deleted = await _in_thread(prune_folders, folders, self._incoming, oldest, max_bytes, set(keep))
        if shared and self._bucket is not None and time.monotonic() > self._listed_at + _LIST_SECONDS:
            # If it does not answer, it was said in the log, and the next time is soon.
            with suppress(OutpaintError):
                deleted += await self._bucket.prune(oldest, keep)
                self._listed_at = time.monotonic()
        return deleted


_in_thread = anyio.to_thread.run_sync
