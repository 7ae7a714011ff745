"""Reads, checks and stores images; the only module that opens a user's file or an image URL.

Whatever comes in is first copied into our own folder, then decoded once in another process, then named by its content,
so that a file called ``<sha256>.<type>`` is a complete image that was checked. Knows nothing of tasks or providers.
"""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.to_thread

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError, OutpaintError, ProviderUnavailableError
from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.task import ResultImage, StoredImage
from outpaint_mcp.domain.values import INVISIBLE, QUOTES
from outpaint_mcp.images import files
from outpaint_mcp.images.child_processes import usable_cores
from outpaint_mcp.images.decoder_pool import DECODER, DecoderPool, Measured
from outpaint_mcp.images.downloads import Fill, download
from outpaint_mcp.images.fair_queue import FairQueue
from outpaint_mcp.images.fetch import ImageFetcher, Resolve, resolve
from outpaint_mcp.images.paths import Meant, meant
from outpaint_mcp.images.pruning import delete
from outpaint_mcp.images.shelves import Shelves
from outpaint_mcp.images.size_limit import MAX_BYTES
from outpaint_mcp.images.small_copy import SmallCopy
from outpaint_mcp.images.sources import copy_user_file, path_of, scheme_of

if TYPE_CHECKING:
    from outpaint_mcp.images.bucket import Bucket

_READS: Final = 128
"""How many input images are read at the same time; each needs some memory and, while it is fetched, a connection."""
_READS_OF_ONE: Final = 32
"""How many of these may be one client's."""
_MAX_PATH: Final = 5000
_GIVE: Final = "Give a public http(s) URL, or a data: URI; for the image of a task its task_id."

Measure = Callable[[Path, str], Awaitable[Measured]]


class ImageLibrary:
    """The images on this machine: input images under ``sources``, results under ``images``.

    Where a method takes a `client`, that is whose turn it takes when many images wait to be decoded.

    Args:
        folder: the folder of these two.
        roots: the folders that a file path may lie in, links resolved.
        allow_private: whether URLs may lead to loopback and private addresses, for tests and sandboxes.
        resolver: resolves host names; by default the system's.
        fetch_timeout: for one URL with its redirects, in seconds.
        connect_timeout: for one attempt to connect, in seconds.
        decode_timeout: for one image, in seconds.
        decoders: how many input images, and how many results besides, are decoded at the same time; by default two,
            and fewer than there are cores.
        shared: whether clients share the decoders of input images: there are two at least then, and none gets the last
            one of them.
        max_waiting: how many input images of one client may wait; by default any number.
        decoder: the command line of the process that decodes.
        environment: that process's environment, by default this one's.
        max_bytes: the size of the largest file that is accepted.
        bucket: where all images are that several machines share; by default they are on this machine alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        roots: tuple[Path, ...],
        allow_private: bool = False,
        resolver: Resolve | None = None,
        fetch_timeout: float = 30.0,
        connect_timeout: float = 5.0,
        decode_timeout: float = 10.0,
        decoders: int | None = None,
        shared: bool = False,
        max_waiting: int | None = None,
        decoder: tuple[str, ...] = DECODER,
        environment: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BYTES,
        bucket: "Bucket | None" = None,
    ) -> None:
        self._shelves = Shelves(folder, bucket)
        self._sources, self._images = self._shelves.sources, self._shelves.images
        self._roots = roots
        self._max_bytes = max_bytes
        limit = max(1, min(2, usable_cores() - 1)) if decoders is None else decoders

        def pool(queue: FairQueue) -> DecoderPool:
            return DecoderPool(queue=queue, timeout=decode_timeout, command=decoder, environment=environment)

        self._reads = FairQueue(_READS, share=_READS_OF_ONE, max_waiting=max_waiting, what="images")
        # Results were paid for: no input, hostile or not, delays them.
        self._results = pool(FairQueue(limit))
        limit = max(limit, 2 if shared else 1)
        self._inputs = pool(FairQueue(limit, share=limit - shared))
        self._fetcher = ImageFetcher(
            max_bytes=max_bytes,
            allow_private=allow_private,
            resolver=resolver or resolve,
            timeout=fetch_timeout,
            connect_timeout=connect_timeout,
        )

    async def __aenter__(self) -> Self:
        """Keep a process that has decoded an image for the next one, until the block ends."""
        await self._inputs.__aenter__()
        await self._results.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._inputs.__aexit__(*error)
        await self._results.__aexit__(*error)

    async def meant(self, ref: str, *, paths_allowed: bool = True) -> Meant:
        """What a client gave as `image`, without what was written around it.

        Raises:
            InvalidImageError, ForbiddenUrlError: it names several images, or none that can be here.
        """
        ref = ref.strip().strip(INVISIBLE).strip()
        if scheme_of(ref) in ("http", "https", "data"):
            return Meant(ref)
        return await _in_thread(meant, ref, self._roots if paths_allowed else ())

    async def read(self, ref: str, *, client: str = "", paths_allowed: bool = True) -> InputImage:
        """Read what `client` gave as `image`: an http(s) URL, a file path (``file:`` URI, ``~``) or a ``data:`` URI.

        Raises:
            InvalidImageError: nothing is there, or not a complete image of a known format within the limits.
            ForbiddenUrlError: a URL or path that must not be opened.
            RateLimitedError: too many images of this client wait to be read.
            ConfigurationError: our own folder cannot be written.
        """
        ref = ref.strip()
        scheme = scheme_of(ref)
        fill = self._fill_from(ref, scheme, paths_allowed)
        async with self._reads.join(client):
            stored = await self._add(fill, self._sources, self._inputs.measure, client)
        url = ref if scheme in ("http", "https") else None
        path = str(self._sources / files.file_name(stored.sha256, stored.mime_type))
        size = stored.width or 0, stored.height or 0
        return InputImage(stored.sha256, stored.mime_type, *size, path, url, stored.size)

    def _fill_from(self, ref: str, scheme: str | None, paths_allowed: bool) -> Fill:
        """What writes the image that a reference names into a file.

        Raises:
            ForbiddenUrlError, InvalidImageError: as for `read`.
        """
        if scheme in ("http", "https"):
            return download(self._fetcher, ref)
        if scheme == "data":
            return lambda part: _in_thread(files.write_data, part, ref, self._max_bytes)
        if scheme not in (None, "file"):
            raise ForbiddenUrlError("The image is a URL that is neither http(s) nor data.", _GIVE)
        if not paths_allowed:
            raise ForbiddenUrlError("This server opens no files by path.", _GIVE)
        path = path_of(ref)
        return lambda part: _in_thread(copy_user_file, path, part, self._roots, self._max_bytes)

    async def keep(self, url: str, *, client: str = "") -> StoredImage:
        """Download a result of `client`'s from its http(s) URL, check it as far as that is possible, and store it.

        Raises:
            OutpaintError: as for `read`.
        """
        return await self._add(download(self._fetcher, url), self._images, self._results.measure_result, client)

    async def keep_answer(self, data: bytes, client: str) -> ResultImage:
        """The bytes of an image that an answer held, checked and stored, by our own URL of it (`files.url_of`).

        It is paid for and nowhere else: if the bucket does not take it now, it is kept here, and to be copied later.

        Raises:
            InvalidImageError: they are not an image.
            ConfigurationError: our own folder cannot be written.
        """
        try:
            async with self._shelves.part() as part:
                await _in_thread(files.append, part, data)
                stored, name = await self._checked(part, self._results.measure_result, client)
                is_safe = await self._shelves.put_here(part, self._images, name)
        except OSError as error:
            raise files.cannot_store(error) from error
        copy = stored if is_safe else None
        return ResultImage(files.url_of(name), stored.mime_type, stored.width, stored.height, copy)

    async def keep_file(self, path: Path, *, client: str = "") -> StoredImage:
        """Store an image that this program drew itself for `client`, at `path`; the file there stays.

        It may be larger than an input image, and is not decoded again.

        Raises:
            InvalidImageError: the file is gone, or is not an image.
            ProviderUnavailableError: the bucket does not take it now; it will be given it again (`put_owed`).
        """
        try:
            return await self._add(
                lambda part: _in_thread(files.link, path, part), self._images, self._results.size, client
            )
        except ProviderUnavailableError:
            # It was drawn here and is nowhere else.
            await self._shelves.owe(path)
            raise

    async def put_owed(self) -> None:
        """Put into the bucket what it did not take before and what no other machine has."""
        await self._shelves.put_owed()

    async def result_named(self, ref: str) -> str | None:
        """The SHA-256 of the stored result whose path or ``file:`` URI this is; None if it is not of one."""
        found = None if len(ref) > _MAX_PATH else re.search(r"([0-9a-f]{64})\.[a-z0-9]+\W*$", ref[-100:])

        def is_ours() -> bool:
            try:
                return path_of(ref.strip(QUOTES + "<> ")).resolve().parent == self._images.resolve()
            except (OutpaintError, OSError, ValueError, RuntimeError):
                return False

        return found[1] if found is not None and await _in_thread(is_ours) else None

    def source_path(self, sha256: str, mime_type: str) -> Path:
        """Where an input image is: read for an order, or a stored result that was handed on.

        Raises:
            ValueError: no stored image can have these.
        """
        name = files.file_name(sha256, mime_type)
        handed_on = self._images / name
        return handed_on if handed_on.exists() and not (self._sources / name).exists() else self._sources / name

    async def result(self, sha256: str, mime_type: str) -> Path:
        """Where a stored result is, fetched if it is not on this machine; or would be, if it is gone.

        Raises:
            OutpaintError: it cannot be had just now.
            ValueError: no stored image can have these.
        """
        return await self._shelves.find(files.file_name(sha256, mime_type), self._images)

    async def at_hand(self, path: Path) -> Path:
        """A path of ours (`source_path`), the image fetched if it is not on this machine; any other as it is.

        Raises:
            OutpaintError: it cannot be had just now.
        """
        name = files.name_in(files.url_of(path.name))
        return path if name is None else await self._shelves.find(name, path.parent)

    async def own(self, url: str) -> Path | None:
        """Likewise the image that one of our own URLs (`files.url_of`) names; None of another. Raises as `result`."""
        name = files.name_in(url)
        return None if name is None else await self._shelves.find(name, self._images)

    def shown(self, url: str) -> str:
        """A URL as whoever shares this machine's files is shown it: a ``file:`` one in place of one of our own."""
        name = files.name_in(url)
        return url if name is None else (self._images / name).as_uri()

    async def load(self, sha256: str, mime_type: str) -> bytes | None:
        """The bytes of a stored result or input image; None if it is gone. Raises as `result`."""
        path = await self._shelves.find(files.file_name(sha256, mime_type), self._images, self._sources)
        try:
            return await anyio.Path(path).read_bytes()
        except OSError:
            return None

    @asynccontextmanager
    async def clean_copy(
        self, image: InputImage, *, client: str = "", frame: Frame | None = None, masked: bool = False
    ) -> AsyncIterator[tuple[InputImage, tuple[str, ...]]]:
        """The image as it may leave this machine, while the block lasts, and notes on it. Raises as `read` does.

        It is scaled to its size in `frame`. If it is `masked`, it is put on the frame's canvas, and a mask goes with
        it. Its URL stands for it only where the image there is just so.
        """
        size = None if frame is None else (frame.width, frame.height)
        canvas = None if frame is None or not masked else (frame.canvas_width, frame.canvas_height, frame.x, frame.y)
        async with contextlib.AsyncExitStack() as parts:
            part = await parts.enter_async_context(self._shelves.part())
            mask = await parts.enter_async_context(self._shelves.part()) if masked else None
            source = await self.at_hand(self.source_path(image.sha256, image.mime_type))
            mime_type, length, width, height, needless, notes = await self._inputs.clean(
                source, part, client, size=size, canvas=canvas, mask_to=mask
            )
            clean = replace(
                image,
                path=str(part),
                mime_type=mime_type,
                width=width,
                height=height,
                size=length,
                url=image.url if needless else None,
                mask="" if mask is None else str(mask),
            )
            yield clean, notes
            for written in filter(None, (part, mask)):
                await _in_thread(delete, written)

    async def finish(
        self, result: StoredImage, original: InputImage, finish: Finish, *, client: str = ""
    ) -> StoredImage:
        """A stored result made what was ordered, with the original put over it (`images.paste_back`), stored too; or
        else the result, with a note that says why.

        Raises:
            ConfigurationError: our own folder cannot be written, or no process can be started.
        """
        drawn = await self.result(result.sha256, result.mime_type)
        source = await self.at_hand(self.source_path(original.sha256, original.mime_type))
        if not await anyio.Path(source).exists():
            return replace(result, note="The original is no longer on this server, so it was not pasted back.")
        try:
            async with self._shelves.part() as part:
                pasted, note = await self._results.paste_back(drawn, source, finish, part, client)
                if not pasted:
                    await _in_thread(delete, part)
                    return replace(result, note=note)
                stored = await self._shelve(part, self._images, self._results.size, client)
        except InvalidImageError as error:
            return replace(result, note=f"The original could not be pasted back into the new image. {error.message}")
        except OSError as error:
            raise files.cannot_store(error) from error
        return replace(stored, url=files.url_of(files.file_name(stored.sha256, stored.mime_type)), note=note)

    async def shrink(self, sha256: str, mime_type: str, copy: SmallCopy, *, client: str = "") -> tuple[bytes, str]:
        """The bytes and the MIME type of a small copy of a stored result, for `client`.

        Raises:
            InvalidImageError: it is no longer here.
        """
        return await self._results.shrink(await self.result(sha256, mime_type), client, copy)

    async def prune(
        self, *, older_than_days: float, max_bytes: int, keep: Collection[str] = frozenset(), shared: bool = True
    ) -> int:
        """Delete the images that were last stored before that many days, then the oldest until `max_bytes` are left.

        `keep` are the SHA-256 of images that stay in any case (and count). `shared`: in the bucket too.
        Returns how many files were deleted.
        """
        oldest = time.time() - older_than_days * 86_400
        return await self._shelves.prune(oldest=oldest, max_bytes=max_bytes, keep=keep, shared=shared)

    async def _add(self, fill: Fill, folder: Path, measure: Measure, client: str) -> StoredImage:
        """Fill a new file, check it, and move it into `folder` under the name of its content."""
        try:
            async with self._shelves.part() as part:
                await fill(part)
                return await self._shelve(part, folder, measure, client)
        except OSError as error:
            raise files.cannot_store(error) from error

    async def _shelve(self, part: Path, folder: Path, measure: Measure, client: str) -> StoredImage:
        stored, name = await self._checked(part, measure, client)
        await self._shelves.put(part, folder, name)
        return stored

    @staticmethod
    async def _checked(part: Path, measure: Measure, client: str) -> tuple[StoredImage, str]:
        """What is in a new file, and the name that it is to have."""
        sha256, size = await _in_thread(files.hash_of, part)
        found = await measure(part, client)
        size = size if found.size is None else found.size
        stored = StoredImage(sha256, found.mime_type, found.width, found.height, size, found.unchecked)
        return stored, files.file_name(sha256, found.mime_type)


_in_thread = anyio.to_thread.run_sync
