"""Finds what a request names: the task to extend, the image to read. An image of a standing order is not read again."""

from dataclasses import replace

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError
from outpaint_mcp.domain.order import InputImage, url_hash
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.references import TaskReference
from outpaint_mcp.domain.request import MAX_IMAGE_INDEX, OutpaintRequest
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.images.sources import scheme_of
from outpaint_mcp.tasks.finding import TaskFinder
from outpaint_mcp.tasks.image_copies import ImageCopies
from outpaint_mcp.tasks.image_links import ImageLinks
from outpaint_mcp.tasks.ledger import Ledger
from outpaint_mcp.tasks.resolver import Resolver, Source


class SourceFinder:
    """Looks up and reads the sources of requests.

    Args:
        ledger: where tasks are written down.
        tasks: finds tasks.
        resolver: says what has to be read.
        images: the images of this machine.
        copies: copies the images of finished tasks.
        paths_allowed: whether `image` may be a path.
        links: the addresses of our copies of images, if there are any.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        tasks: TaskFinder,
        resolver: Resolver,
        images: ImageLibrary,
        copies: ImageCopies,
        paths_allowed: bool,
        links: ImageLinks | None = None,
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._resolver = resolver
        self._images = images
        self._copies = copies
        self._paths_allowed = paths_allowed
        self._links = links

    async def named(self, request: OutpaintRequest, client: str) -> tuple[OutpaintRequest, tuple[str, ...]]:
        """The request with what its source means: the bare address of an image, and in place of our own address of a
        task or of one of its images `task_id` and `image_index`; and what the client should know of it.

        Raises:
            InvalidRequestError: our own address contradicts what else is given.
            InvalidImageError: no single image is named.
        """
        notes: tuple[str, ...] = ()
        found = await self._reference(request.image or request.task_id or "", client)
        if found is None and request.image is not None and request.task_id is None:
            meant = await self._images.meant(request.image, paths_allowed=self._paths_allowed)
            request, notes = replace(request, image=meant.ref), meant.notes
            found = await self._reference(meant.ref, client)
        if found is None:
            return request, notes
        if request.image is not None and request.task_id is not None:
            other = await self._reference(request.task_id, client) or TaskReference(request.task_id)
            if other.task_id != found.task_id:
                raise InvalidRequestError("task_id and image name two tasks.", "Give one of them.")
        index = found.image_index or request.image_index
        if index is not None and not (request.image_index in (None, index) and 1 <= index <= MAX_IMAGE_INDEX):
            raise InvalidRequestError(
                f"The address names image {index}, which contradicts image_index or is no image of a task.",
                f"Give image_index 1 to {MAX_IMAGE_INDEX} and the task_id alone.",
            )
        return replace(request, task_id=found.task_id, image=None, image_index=index), ()

    async def _reference(self, text: str, client: str) -> TaskReference | None:
        """The client's task that our own address of it names, or the path of our copy of one of its images."""
        found = TaskReference.of(text) or (None if self._links is None else self._links.reference(text))
        if found is not None or not self._paths_allowed:
            return found
        sha256 = await self._images.result_named(text)
        task = None if sha256 is None else await self._ledger.store.owner_of(client, sha256)
        return None if task is None else TaskReference(*task)

    async def find(self, request: OutpaintRequest, client: str) -> Source:
        """The parent's record, the image that has to be read, or both.

        Raises:
            OutpaintError: there is no such task or image, or it cannot be extended.
        """
        if request.task_id is None:
            reference = (request.image or "").strip()
            return await self._standing(request, client, reference) or Source(
                image=_unread(await self._images.read(reference, client=client, paths_allowed=self._paths_allowed))
            )
        parent = await self._tasks.find(request.task_id, request.provider, client)
        index = self._resolver.image_needed(request, parent)
        if index is None:
            return Source(parent)
        url = next((image.url for image in parent.task.images if image.index == index), "")
        return await self._standing(request, client, url, parent) or Source(
            parent, _unread(await self._copies.as_input(parent, index))
        )

    async def _standing(
        self, request: OutpaintRequest, client: str, url: str, parent: Record | None = None
    ) -> Source | None:
        """The source of a task that answers for this request, with the image that `url` gave to it then."""
        if scheme_of(url) not in ("http", "https"):
            return None
        now = self._ledger.clock.now()
        for image in await self._ledger.store.images_of(url_hash(client, url), now=now, repeat=request.repeat):
            source = Source(parent, replace(image, url=url))
            try:
                order, _ = self._resolver.resolve(request, source)
            except OutpaintError:
                # What the URL gives now may be extended so nevertheless.
                continue
            if await self._ledger.store.stands(order, client, now=now, repeat=request.repeat):
                return source
        return None


def _unread(image: InputImage) -> InputImage:
    """The image without the path of its file, which no provider gets: what it may read it is handed with the order."""
    return replace(image, path="")
