"""Copies the images of finished tasks to this machine, so that they outlive the vendors' URLs.

Where the provider draws the whole image anew, the original is pasted back into the copy, which then stands for the
provider's image.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

import anyio

from outpaint_mcp.domain.clock import Clock
from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, UnknownTaskError
from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.task import StoredImage
from outpaint_mcp.images.files import file_name, url_of
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.small_copy import PREVIEW, SmallCopy
from outpaint_mcp.images.sources import path_of
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.tasks.transitions import with_copies, with_note

logger = logging.getLogger(__name__)

_Given = TypeVar("_Given")

COPY_SECONDS: Final = 15.0
"""How long a finished task waits for its images to be copied before it is reported; the copying may go on later."""
PASTE_SECONDS: Final = 60.0
"""Likewise for the original to be pasted back into its images."""
COPY_AGAIN_SECONDS: Final = 60.0
COPY_UNTIL: Final = 2 * 3600.0
"""How old a task may be whose images are still tried."""
COPY_NOTE: Final = "Some images could not be copied yet: the provider's URLs may expire."
PASTE_NOTE: Final = (
    "Some images are as the provider drew them: the original is not pasted back yet. Call get_task in a minute."
)


class ImageCopies:
    """Copies images, and finds the copies again.

    Args:
        images: the images of this machine.
        providers: by name.
        clock: when it is.
    """

    def __init__(self, images: ImageLibrary, providers: Mapping[str, Provider], clock: Clock) -> None:
        self._images = images
        self._providers = providers
        self._clock = clock

    async def copied(self, record: Record) -> Record:
        """The record with its images copied as far as the time allows; due again if some are missing."""
        missing = {image.index: image.url for image in record.task.images if image.index not in record.copies}
        fetched = await self._each(record, missing, self._fetched, COPY_SECONDS)
        record = with_copies(record, await self._each(record, fetched, self._with_original, PASTE_SECONDS))
        if len(record.copies) < len(record.task.images):
            note = PASTE_NOTE if self._finishing(record) else COPY_NOTE
            record = with_note(record, note, replacing=note)
            return replace(record, due_at=self._clock.now() + COPY_AGAIN_SECONDS)
        notes = tuple(one for one in record.task.notes if one not in (COPY_NOTE, PASTE_NOTE))
        return replace(record, task=record.task.model_copy(update={"notes": notes}), due_at=None)

    @staticmethod
    async def _each(
        record: Record,
        given: Mapping[int, _Given],
        do: Callable[[Record, _Given], Awaitable[StoredImage]],
        seconds: float,
    ) -> dict[int, StoredImage]:
        """What comes of each image, by index, within so many seconds; those of which nothing does are left out."""
        found: dict[int, StoredImage] = {}

        async def one(index: int, given: _Given) -> None:
            try:
                found[index] = await do(record, given)
            except OutpaintError as error:
                logger.info("image %d of %s could not be copied: %s", index, record.task.id, error.code)

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as doing:
                for index, each in given.items():
                    doing.start_soon(one, index, each)
        return found

    async def copied_again(self, record: Record) -> Record:
        """The record after another try for the missing images; no longer due once the task is `COPY_UNTIL` old."""
        record = await self.copied(record)
        if self._clock.now() - record.task.created_at.timestamp() > COPY_UNTIL:
            record = replace(record, due_at=None)
        return record

    async def copy_of(self, record: Record, url: str) -> StoredImage:
        """Our own checked copy of an image of a task, the original pasted back where that is done.

        Raises:
            OutpaintError: there is no image at `url` (any more), or it must not be opened.
        """
        return await self._with_original(record, await self._fetched(record, url))

    async def _fetched(self, record: Record, url: str) -> StoredImage:
        """The image as the provider gave it. Raises as `copy_of` does."""
        found = self._providers.get(record.task.provider)
        drawn_here = found is not None and not found.leaves_machine
        path = await self._images.own(url)
        if path is None and (drawn_here or await self._images.result_named(url) is not None):
            # A file: URL, of what was drawn or stored here. No provider's answer may name another file of this machine.
            path = path_of(url)
        if path is None:
            return await self._images.keep(url, client=record.client)
        copy = await self._images.keep_file(path, client=record.client)
        # From here on it is named as it is on every machine.
        return replace(copy, url=url_of(file_name(copy.sha256, copy.mime_type)))

    async def _with_original(self, record: Record, copy: StoredImage) -> StoredImage:
        finish = self._finishing(record)
        if finish is None or record.order is None or not isinstance(record.order.source, InputImage):
            return copy
        return await self._images.finish(copy, record.order.source, finish, client=record.client)

    def _finishing(self, record: Record) -> Finish | None:
        provider = self._providers.get(record.task.provider)
        return None if provider is None or record.order is None else provider.finishing(record.order, record.reference)

    async def bytes_of(self, record: Record, index: int, small: SmallCopy | None = None) -> tuple[bytes, str, Record]:
        """The bytes and the MIME type of a task's image, and the record, which is another one if it was copied now.

        `small`: of a small copy of it.

        Raises:
            UnknownTaskError: the task has no such image.
            InvalidImageError: the provider's URL gives no image (any more).
        """
        wanted = next((image for image in record.task.images if image.index == index), None)
        if wanted is None:
            raise UnknownTaskError(f"The task {record.task.id} has no image {index}.", "See the task's images.")
        copy = record.copies.get(index)
        data = None if copy is None else await self._images.load(copy.sha256, copy.mime_type)
        if copy is None or data is None:
            copy = await self.copy_of(record, wanted.url)
            record = with_copies(record, {index: copy})
            data = await anyio.Path(await self._images.result(copy.sha256, copy.mime_type)).read_bytes()
        if small is None:
            return data, copy.mime_type, record
        return *await self._images.shrink(copy.sha256, copy.mime_type, small, client=record.client), record

    async def file_of(self, record: Record | None, index: int) -> tuple[anyio.Path, str]:
        """The file of our copy of a task's image, which may have been deleted meanwhile, and its MIME type.

        Raises:
            UnknownTaskError: there is no such task or copy.
            OutpaintError: the copy cannot be had just now.
        """
        copy = None if record is None else record.copies.get(index)
        if copy is None:
            raise UnknownTaskError("The image's task is no longer here.", "Order it again.")
        return anyio.Path(await self._images.result(copy.sha256, copy.mime_type)), copy.mime_type

    async def preview_of(self, record: Record, client: str) -> bytes | None:
        """A small JPEG of a task's first image, if there is one on this machine."""
        copy = record.copies.get(1)
        if copy is None:
            return None
        try:
            data, _ = await self._images.shrink(copy.sha256, copy.mime_type, PREVIEW, client=client)
            return data
        except OutpaintError:
            return None

    async def as_input(self, record: Record, index: int) -> InputImage:
        """An image of a finished task as an input image, by its URL if that is public.

        Raises:
            InvalidRequestError: the task has no such image.
            OutpaintError: it cannot be had any more.
        """
        image = next((one for one in record.task.images if one.index == index), None)
        if image is None:
            raise InvalidRequestError(
                f"The task {record.task.id} has no image {index}.",
                f"Give image_index 1 to {max(1, len(record.task.images))}.",
            )
        copy = record.copies.get(index)
        kept = None if copy is None else await self._images.result(copy.sha256, copy.mime_type)
        if copy is None or kept is None or not await anyio.Path(kept).exists():
            copy = await self.copy_of(record, image.url)
        elif copy.width is None or copy.height is None:
            copy = await self._images.keep_file(kept, client=record.client)
        path = anyio.Path(await self._images.result(copy.sha256, copy.mime_type))
        url = image.url if copy.url is None and image.url.startswith(("http://", "https://")) else None
        width, height = copy.width or 0, copy.height or 0
        return InputImage(copy.sha256, copy.mime_type, width, height, str(path), url, (await path.stat()).st_size)
