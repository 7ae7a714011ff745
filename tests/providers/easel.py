"""A pretend vendor whose answer is the image, and where its images are stored."""

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import anyio
import httpx2

import outpaint_mcp.providers as api
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.images.files import name_in
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.synchronous import KeepImage

from ..images.test_library import file_of
from .network import Queue

PNG, LARGER = file_of(size=(48, 36)), file_of(size=(64, 48))
KEY = "easel-key-not-to-be-shown"
CENT = api.Cost(amount=0.01, unit="USD", usd=0.01)


class _Answer(api.Answer):
    images: tuple[str, ...]
    price: api.Number = None
    warnings: tuple[str, ...] = ()


class Easel(api.SynchronousProvider):
    """Answers with an image, or with JSON in which there are several."""

    name = "easel"
    title = "Easel"
    base_url = "https://easel.example"
    key_env = "EASEL_KEY"
    docs_url = "https://easel.example/docs"
    price = "a cent"
    image_lifetime = "none: the answer is the image"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/paint",
            source=api.Argument(wire="image"),
            takes_url=True,
            zoom=api.Zoom(wire="zoom"),
            arguments={api.Feature.PROMPT: api.Argument("any", "prompt")},
        )
    }
    usual_seconds = 5.0
    usd: ClassVar = {api.StepName.OUTPAINT: 0.01}

    def parse_images(self, body: Any) -> api.Painted:
        if isinstance(body, bytes):
            return api.Painted((body,), CENT)
        answer = self.read_as(_Answer, body)
        images = tuple(base64.b64decode(image, validate=True) for image in answer.images)
        cost = None if answer.price is None else api.usd_cost(answer.price, "USD", 1)
        return api.Painted(images, cost, answer.warnings)


class UploadingEasel(Easel):
    """Wants the input image uploaded before the order."""

    uploads = True

    def build_upload(self, image: api.InputImage, data: bytes) -> api.ApiCall:
        return api.ApiCall("POST", "/upload", files=(api.UploadFile("file", "image.png", image.mime_type, data),))

    def parse_upload(self, body: Any) -> str:
        return str(body["at"])


class Shelf:
    """Stores images as the program does, after refusing a number of times; `decoder` as of `ImageLibrary`."""

    def __init__(self, folder: Path, refusals: int = 0, **decoder: Any) -> None:
        self._images = ImageLibrary(folder, roots=(), **decoder)
        self._refusals = refusals
        self.handed: list[bytes] = []

    async def keep(self, data: bytes, client: str) -> api.ResultImage:
        self.handed.append(data)
        if self._refusals:
            self._refusals -= 1
            raise ConfigurationError("The disk is full.")
        return await self._images.keep_answer(data, client)


async def nowhere(data: bytes, client: str) -> api.ResultImage:
    raise AssertionError("nothing is to be stored")


def painted(data: bytes = PNG, mime_type: str = "image/png") -> httpx2.Response:
    return httpx2.Response(200, content=data, headers={"content-type": mime_type})


def listed(*images: bytes, **more: Any) -> httpx2.Response:
    return httpx2.Response(200, json={"images": [base64.b64encode(image).decode() for image in images], **more})


def easel(
    keep: KeepImage,
    *answers: httpx2.Response | Exception,
    one: type[Easel] = Easel,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> tuple[Easel, Queue]:
    queue = Queue(list(answers))
    return one(queue.client(), keep=keep, key=KEY, sleep=sleep), queue


def file_at(url: str) -> bytes:
    assert url.startswith("file:")
    return Path(httpx2.URL(url).path).read_bytes()


def on_disk(update: api.TaskUpdate, folder: Path) -> list[bytes]:
    """The images of an update, which a `Shelf` in `folder` has stored."""
    return [(folder / "images" / (name_in(image.url) or "")).read_bytes() for image in update.images]
