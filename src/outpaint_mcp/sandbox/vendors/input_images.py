"""Reads the images that clients send to be extended: by a URL on this machine, within the request, or uploaded."""

import base64
import binascii
from collections.abc import Callable

import httpx2

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.sandbox.image_specs import ImageSpec
from outpaint_mcp.sandbox.image_store import ImageStore, StoredUpload
from outpaint_mcp.sandbox.loopback import is_http_url, is_loopback
from outpaint_mcp.sandbox.vendors.bodies import RejectedError

MAX_IMAGE_BYTES = 25_000_000
FETCH_SECONDS = 10.0


class InputImages:
    """The clients' own images, kept in the image store."""

    def __init__(self, store: ImageStore, client: Callable[[], httpx2.AsyncClient]) -> None:
        self._store = store
        self._client = client

    async def fetch(self, url: str) -> StoredUpload:
        """The image at `url`, which must be on this machine.

        A vendor would fetch it after accepting; whether a bad URL is rejected or fails later is not documented. Here it
        is rejected: an order that costs nothing is the safer reading.

        Raises:
            RejectedError: there is no image that can be read.
        """
        if not is_loopback(url):
            raise RejectedError(400, "The sandbox reads images from loopback addresses only")
        try:
            async with self._client() as client, client.stream("GET", url, timeout=FETCH_SECONDS) as answer:
                if not answer.is_success:
                    raise RejectedError(400, f"The image URL answered HTTP {answer.status_code}")
                data = bytearray()
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_IMAGE_BYTES:
                        raise RejectedError(400, "The image is larger than 25 MB")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RejectedError(400, f"The image URL cannot be read ({type(error).__name__})") from None
        return await self.store(bytes(data))

    async def read(self, value: str, *, bare: bool = False) -> StoredUpload:
        """The image that a field of a body gives: its URL, a ``data:`` URI, or where `bare` its bytes in base64.

        Raises:
            RejectedError: there is no image that can be read.
        """
        if is_http_url(value):
            return await self.fetch(value)
        head, comma, encoded = value.partition(",")
        if comma and head.startswith("data:image/") and head.endswith(";base64"):
            value, bare = encoded, True
        if not bare:
            raise RejectedError(400, "The image is no http(s) URL and no data: URI")
        try:
            data = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise RejectedError(400, "The image is no base64") from None
        return await self.store(data)

    async def bytes_of(self, image: ImageSpec) -> tuple[bytes, str]:
        """The bytes and the MIME type of an image that a vendor answers with."""
        return await self._store.read(image)

    async def store(self, data: bytes) -> StoredUpload:
        """Stores an uploaded image.

        Raises:
            RejectedError: it is larger than 25 MB, no image, or not a whole one.
        """
        if len(data) > MAX_IMAGE_BYTES:
            raise RejectedError(400, "The file is larger than 25 MB")
        try:
            return await self._store.store(data)
        except InvalidImageError as error:
            raise RejectedError(400, error.message) from None
