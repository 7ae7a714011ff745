"""The bucket that several servers share as the place of their images: each object named by the SHA-256 of its content.

It is reached with obstore, which reads the ``AWS_*`` variables (or the machine's role) by itself: no credential passes
through this program, and none of obstore's messages, in which addresses stand, leaves it. Imported where a bucket is
set and nowhere else.
"""

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import anyio
import anyio.to_thread
import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from outpaint_mcp.domain.bucket_url import BucketUrl
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError, ProviderUnavailableError

logger = logging.getLogger(__name__)

PIECE_BYTES: Final = 5 << 20
"""What is in memory of an image at a time, twice; S3 takes no smaller part of an upload."""
REQUEST_SECONDS: Final = 15.0
"""For one piece: a line that takes longer is too slow to copy images over."""
LEAST_SECONDS: Final = 30.0
"""For one image of no size, attempts counted together."""
SLOWEST: Final = PIECE_BYTES / REQUEST_SECONDS
FRESH_SECONDS: Final = 3600.0
"""An object that was put so lately is not put again; see `prune`."""
MOST_BYTES: Final = 1 << 30
"""More than any image of ours has: nothing larger is fetched onto the disk."""
_TRANSFERS: Final = 16
_NAME: Final = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{2,5}")
_AGAIN: Final = "Nothing was ordered. Call again in a minute."
_OPERATOR: Final = "Have the operator run outpaint-mcp doctor, which tries the bucket."
_CREDENTIALS: Final = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or the machine's role."


class Bucket:
    """A bucket of S3's kind.

    Args:
        url: the bucket.
        plain_http: whether its endpoint may be reached without TLS.
        request_seconds: for one request.
        least_seconds: for an image of no size.
    """

    def __init__(
        self,
        url: BucketUrl,
        *,
        plain_http: bool = False,
        request_seconds: float = REQUEST_SECONDS,
        least_seconds: float = LEAST_SECONDS,
    ) -> None:
        self._store = S3Store(
            url.bucket,
            prefix=url.prefix or None,
            client_options={
                "allow_http": plain_http,
                "connect_timeout": timedelta(seconds=min(5.0, request_seconds)),
                "timeout": timedelta(seconds=request_seconds),
            },
            retry_config={
                "max_retries": 2,
                "retry_timeout": timedelta(seconds=least_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )
        self._least = least_seconds
        self._turns = anyio.Semaphore(_TRANSFERS)
        self._wrong: set[str] = set()

    @classmethod
    def open(cls, url: BucketUrl, *, plain_http: bool) -> Self:
        """
        Raises:
            ConfigurationError: what the environment says of it cannot be used.
        """
        try:
            return cls(url, plain_http=plain_http)
        except (BaseError, ValueError):
            raise ConfigurationError(
                "One of the AWS_* variables cannot be read, so the bucket cannot be reached.",
                "Correct the environment and start again.",
            ) from None

    async def put(self, name: str, file: Path) -> None:
        """Have the object `name` hold what is in `file`, streamed. One that is there and fresh already stays.

        Raises:
            ProviderUnavailableError: the bucket cannot be reached just now.
            ConfigurationError: it does not exist, or does not permit it.
        """
        size = (await anyio.Path(file).stat()).st_size
        async with self._turns:
            if name not in self._wrong and await self._is_fresh(name, size):
                return
            async with self._within(self._least + size / SLOWEST, "stored in"):
                await obstore.put_async(self._store, name, file, chunk_size=PIECE_BYTES, max_concurrency=2)
        self._wrong.discard(name)

    async def _is_fresh(self, name: str, size: int) -> bool:
        try:
            async with self._within(self._least, "looked up in"):
                found = await obstore.head_async(self._store, name)
        except (FileNotFoundError, ConfigurationError):
            # Without the right to list, S3 does not say that there is none. Whoever puts it is told what is wrong.
            return False
        return found["size"] == size and found["last_modified"].timestamp() > time.time() - FRESH_SECONDS

    async def fetch(self, name: str, part: Path) -> float | None:
        """Append the object's bytes to the empty file `part`; returns when it was put, in seconds since the epoch.

        None if there is no such object, or it holds something else than its name says: whoever can tell from where the
        image came puts it anew.

        Raises:
            ProviderUnavailableError, ConfigurationError: as for `put`.
        """
        async with self._turns:
            try:
                async with self._within(self._least, "looked up in"):
                    found = await obstore.head_async(self._store, name)
            except FileNotFoundError:
                return None
            size, digest = found["size"], hashlib.sha256()

            def write(piece: bytes) -> None:
                digest.update(piece)
                with part.open("ab") as file:
                    file.write(piece)

            if size <= MOST_BYTES:
                async with self._within(self._least + size / SLOWEST, "read from"):
                    for start in range(0, size, PIECE_BYTES):
                        length = min(PIECE_BYTES, size - start)
                        piece = await obstore.get_range_async(self._store, name, start=start, length=length)
                        await anyio.to_thread.run_sync(write, bytes(piece))
        if digest.hexdigest() != name.partition(".")[0]:
            logger.error("the object %s in the bucket is not the image that it is named after; it is not used", name)
            self._wrong.add(name)
            return None
        return found["last_modified"].timestamp()

    async def prune(self, oldest: float, keep: Collection[str]) -> int:
        """Delete the images that were last put before `oldest` (seconds since the epoch), except those whose SHA-256 is
        in `keep`. Returns how many.

        What is put anew meanwhile is safe: `oldest` is held to be twice `FRESH_SECONDS` ago at least, and what was
        listed is deleted before more is listed.

        Raises:
            ProviderUnavailableError, ConfigurationError: as for `put`.
        """
        before = datetime.fromtimestamp(min(oldest, time.time() - 2 * FRESH_SECONDS), UTC)
        deleted = 0
        listed = aiter(obstore.list(self._store, chunk_size=1000))
        while True:
            async with self._within(self._least, "listed in"):
                chunk = await anext(listed, None)
            if chunk is None:
                return deleted
            old = [
                one["path"]
                for one in chunk
                if one["last_modified"] < before and _NAME.fullmatch(one["path"]) and one["path"][:64] not in keep
            ]
            if old:
                async with self._within(self._least, "deleted from"):
                    await obstore.delete_async(self._store, old)
                deleted += len(old)

    async def try_out(self, name: str) -> None:
        """Look for, put, read, list and delete a small object called `name`, which must be nobody else's.

        Raises:
            OutpaintError: what of that does not work, and what to do about it.
        """
        data = name.encode()

        async def look() -> None:
            with contextlib.suppress(FileNotFoundError):
                await obstore.head_async(self._store, name)

        async def put() -> None:
            await obstore.put_async(self._store, name, data)

        async def read() -> None:
            if bytes(await (await obstore.get_async(self._store, name)).bytes_async()) != data:
                raise ConfigurationError("The bucket gives something else than was stored.", "Use another bucket.")

        async def find() -> None:
            await anext(aiter(obstore.list(self._store, chunk_size=1)))

        async def delete() -> None:
            await obstore.delete_async(self._store, name)

        # S3 refuses whoever may not list, and asks for what is not there.
        for step, what, permission in (
            (look, "looked up in", "ListBucket"),
            (put, "stored in", "PutObject"),
            (read, "read from", "GetObject"),
            (find, "listed in", "ListBucket"),
            (delete, "deleted from", "DeleteObject"),
        ):
            try:
                async with self._within(self._least, what):
                    await step()
            except _RefusedByBucketError as error:
                raise ConfigurationError(error.message, f"Permit s3:{permission}. {_CREDENTIALS}") from error

    @asynccontextmanager
    async def _within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """Give up after so many seconds, and say what went wrong: nothing can be `what` the bucket.

        Raises:
            FileNotFoundError: there is no such object.
            ProviderUnavailableError, ConfigurationError: as for `put`.
        """
        try:
            with anyio.fail_after(seconds):
                yield
        except (BaseError, FileNotFoundError, TimeoutError) as error:
            told = _told(error, what)
            if told is None:
                raise
            # Its name and S3's code: the message holds addresses, and a proxy's password perhaps.
            logger.warning("nothing can be %s the bucket: %s %s", what, type(error).__name__, _code_of(error))
            raise told from None


class _RefusedByBucketError(ConfigurationError):
    """The bucket does not permit something."""


def _code_of(error: Exception) -> str:
    found = re.search(r"<Code>(\w{1,80})</Code>", str(error))
    return "" if found is None else found[1]


def _told(error: Exception, what: str) -> OutpaintError | None:
    """What a client is told; None if there is no such object."""
    code = _code_of(error)
    if code == "NoSuchBucket":
        return ConfigurationError("The bucket of OUTPAINT_IMAGES_URL does not exist.", _OPERATOR)
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        said = f" ({code})" if code else ""
        return _RefusedByBucketError(f"Nothing can be {what} the bucket of OUTPAINT_IMAGES_URL{said}.", _OPERATOR)
    if "169.254." in str(error):
        # Where no credentials are given it asks the machine for its role's.
        return ConfigurationError("There are no credentials for the bucket of OUTPAINT_IMAGES_URL.", _CREDENTIALS)
    return ProviderUnavailableError("The bucket with the server's images does not answer as it should.", _AGAIN)
