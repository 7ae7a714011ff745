"""A vendor's adapter whose network is a queue of answers."""

from dataclasses import dataclass, field
from typing import Any

import httpx2

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent
from outpaint_mcp.domain.request import AspectRatio
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider

KEY = "key-not-to-be-shown"
UUID = "5b0e8b1a-0000-4000-8000-000000000001"
FOUR = tuple(f"https://cdn.example.com/{at}.png" for at in range(4))
GRID = "https://cdn.example.com/grid.png"


@dataclass
class Vendor:
    """Gives its answers one after the other, and keeps the requests."""

    answers: list[tuple[int, Any]]
    requests: list[httpx2.Request] = field(default_factory=list)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        status, body = self.answers.pop(0)
        return httpx2.Response(status, json=body)


async def no_pause(seconds: float) -> None:
    """In place of a sleep."""


def of(one: type[HttpProvider], *answers: tuple[int, Any], key: str | None = KEY) -> tuple[HttpProvider, Vendor]:
    vendor = Vendor(list(answers))
    return one(HttpClient(transport=httpx2.MockTransport(vendor.handle), sleep=no_pause), key=key), vendor


async def started(one: type[HttpProvider], order: Order, *answers: tuple[int, Any]) -> TaskUpdate:
    provider, _ = of(one, *answers)
    return await provider.start(order)


async def polled(one: type[HttpProvider], *answers: tuple[int, Any]) -> TaskUpdate:
    provider, _ = of(one, *answers)
    return await provider.poll(UUID)


def order(**changes: Any) -> Order:
    """An order for the third image of a task."""
    fields: dict[str, Any] = {"provider": "one", "key": "op-1-0", "source": Parent(UUID, index=3), "zoom": 1.5}
    return Order(**{**fields, **changes})


def input_image(width: int = 800, height: int = 600, **changes: Any) -> InputImage:
    fields: dict[str, Any] = {"path": "picture.png", "url": "https://example.com/picture.png?sig=hush"}
    return InputImage("0" * 64, "image/png", width, height, **{**fields, **changes})


def image_order(
    image: InputImage | None = None, *, zoom: float = 1.5, aspect_ratio: AspectRatio | None = None, **changes: Any
) -> Order:
    """An order for your own image, with the frame that it comes to."""
    image = image or input_image()
    fields = {"frame": frame_of(image, zoom, aspect_ratio), "zoom": zoom, "aspect_ratio": aspect_ratio, **changes}
    return order(source=image, **fields)


def frame_of(image: InputImage, zoom: float = 1.5, aspect_ratio: AspectRatio | None = None) -> Frame:
    return Frame.around(image.width, image.height, zoom=zoom, aspect_ratio=aspect_ratio)


def urls(update: TaskUpdate) -> tuple[str, ...]:
    return tuple(image.url for image in update.images)
