"""A vendor whose answer to the order is the image itself: nothing to poll, and nothing to look up if it is lost."""

import base64
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import anyio

from outpaint_mcp.domain.errors import ConfigurationError, InvalidImageError, UnexpectedResponseError, UnknownTaskError
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.task import Cost, Failure, ResultImage, Status, TaskUpdate
from outpaint_mcp.providers.calls import MAX_IMAGES, ApiCall
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider

logger = logging.getLogger(__name__)

KeepImage = Callable[[bytes, str], Awaitable[ResultImage]]
"""Checks an image's bytes and stores them, for a client.

Raises InvalidImageError, or ConfigurationError where it cannot write.
"""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to store an image."""


@dataclass(frozen=True, slots=True)
class Painted:
    """What one answer holds: the images' bytes, what they cost, and what the client should know.

    With a `failure` the order was taken, and there is no image that is worth having.
    """

    images: tuple[bytes, ...]
    cost: Cost | None = None
    notes: tuple[str, ...] = ()
    failure: Failure | None = None


class SynchronousProvider(HttpProvider):
    """A vendor that answers an order with its images. Its file declares what it can do, and reads `parse_images`.

    The id of a task at the provider is the order's own key, since the vendor gives none.

    Args:
        client: the HTTP client of the program.
        keep: checks and stores an image; a task succeeds only after that.
        key: the vendor's API key.
        base_url: in place of the vendor's own.
        sleep: waits for so many seconds.
    """

    synchronous = True
    order_seconds: ClassVar[float | None] = 180.0
    max_answer_bytes: ClassVar[int] = 64 * 1024 * 1024
    statuses: ClassVar = {}
    first_poll = poll_interval = 1.0

    def __init__(
        self,
        client: HttpClient,
        *,
        keep: KeepImage,
        key: str | None = None,
        base_url: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        super().__init__(client, key=key, base_url=base_url)
        self._keep = keep
        self._sleep = sleep

    @abstractmethod
    def parse_images(self, body: Any) -> Painted:
        """The images in the answer to an order: `body` is the JSON, or the bytes of an answer that is an image.

        Raises:
            UnexpectedResponseError: it holds none.
        """

    def decoded(self, text: str) -> bytes:
        """The bytes of an image within JSON: base64, also as a ``data:`` URI.

        Raises:
            UnexpectedResponseError: it is neither.
        """
        try:
            data = base64.b64decode(text.rpartition(",")[2], validate=True)
        except ValueError:
            data = b""
        if not data:
            raise self.unexpected("its image is no base64")
        return data

    async def start(self, order: Order) -> TaskUpdate:
        endpoint = self._endpoint(order)
        call = await self._call_for(endpoint, order)

        def parse(body: Any) -> Painted:
            painted = self.parse_images(body)
            if not painted.images and painted.failure is None:
                raise self.unexpected("it holds no image")
            return painted

        painted = await self._placed(endpoint, call, order, parse)
        # The images are paid for, and nowhere else than in this process.
        return endpoint.tidied(await self._stored(order.key, order.client, painted))

    async def _stored(self, remote_id: str, client: str, painted: Painted) -> TaskUpdate:
        """A client's task after its images were stored; those that are no images are left out, with a note."""
        if painted.failure is not None:
            return TaskUpdate(Status.FAILED, remote_id, failure=painted.failure, cost=painted.cost, notes=painted.notes)
        images: list[ResultImage] = []
        problem = ""
        for data in painted.images[:MAX_IMAGES]:
            try:
                images.append(await self._kept(data, client))
            except InvalidImageError as error:
                problem = error.message
        if not images:
            message = f"{self.title} answered with something that is not an image. {problem}"
            failure = Failure(code=UnexpectedResponseError.code, message=message)
            return TaskUpdate(Status.FAILED, remote_id, failure=failure, cost=painted.cost, notes=painted.notes)
        notes = painted.notes
        if len(painted.images) > MAX_IMAGES:
            notes = (f"{self.title} gives {len(painted.images)} images; only the first {MAX_IMAGES} are taken.", *notes)
        if bad := len(painted.images[:MAX_IMAGES]) - len(images):
            notes = (*notes, f"{bad} of the {len(painted.images)} images cannot be read and are left out: {problem}")
        return TaskUpdate(
            Status.SUCCEEDED,
            remote_id,
            progress=100,
            images=tuple(images),
            cost=painted.cost,
            is_grid=len(images) > 1,
            notes=notes,
        )

    async def _kept(self, data: bytes, client: str) -> ResultImage:
        """Store one image. While the disk does not take it, it waits in memory.

        Raises:
            InvalidImageError: it is no image.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._keep(data, client)
            except ConfigurationError as error:
                logger.error("an image of %s cannot be stored, next attempt in %.0f s: %s", self.name, pause, error)
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        raise UnknownTaskError(
            f"{self.title} keeps no tasks: its answer to an order is the image.", "Order it again if it was lost."
        )

    def build_fetch(self, remote_id: str, reference: str | None = None) -> ApiCall:
        raise NotImplementedError(f"{self.name} keeps no tasks")

    def parse_fetch(self, body: Any) -> TaskUpdate:
        raise NotImplementedError(f"{self.name} keeps no tasks")
