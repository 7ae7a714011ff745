"""What is known to be refused before an image is read, and once it is; how a task's image is handed on. Pure."""

from dataclasses import replace
from typing import Final

from outpaint_mcp.domain.errors import InvalidRequestError, UnsupportedFeatureError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.record import Record
from outpaint_mcp.domain.request import OutpaintRequest, SourceKind
from outpaint_mcp.images.sources import scheme_of
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.midjourney import NO_V8_ZOOM
from outpaint_mcp.tasks.ways_out import Check

USUAL_SIZES: Final = ((800, 600), (600, 800))
"""Pixels: the shapes that a provider is asked about before the image is known."""


def as_image(request: OutpaintRequest, parent: Record | None = None) -> OutpaintRequest:
    """The request as it is made of a provider that gets the task's image and not the task.

    `image` is then the parent's, where it is known: not every provider takes one without a public URL.
    """
    if parent is None:
        return replace(request, image_index=None)
    index = request.image_index or 1
    url = next((image.url for image in parent.task.images if image.index == index), None)
    return replace(request, image_index=None, image=url)


def check_growth(request: OutpaintRequest) -> None:
    """Refuse what makes no image larger."""
    if request.zoom == 1 and request.aspect_ratio is None:
        raise InvalidRequestError(
            "With zoom 1 and no aspect_ratio the image would not grow.", "Give a zoom above 1, or an aspect_ratio."
        )


def no_zoom(provider: Provider) -> UnsupportedFeatureError:
    """The refusal to zoom out of an image of which the provider says that it cannot be."""
    own = ["Give the image's own URL as image, in place of task_id."] * (SourceKind.IMAGE in provider.operations)
    return UnsupportedFeatureError(
        f"{provider.title} lists no zoom among what can be done with this image. {NO_V8_ZOOM}", *own
    )


def check_task(provider: Provider, request: OutpaintRequest) -> None:
    provider.check(request, SourceKind.TASK)


def check_own_image(provider: Provider, request: OutpaintRequest) -> None:
    """What is known before the image is read."""
    check_growth(request)
    provider.check(request, SourceKind.IMAGE)


def check_usual_images(provider: Provider, request: OutpaintRequest) -> None:
    """Before the image is read: whether the provider could extend it if it has a usual shape."""
    # A vendor's image, of which nothing is known yet, has a URL.
    url = "https:" if request.image is None else request.image
    check_own_image(provider, request)
    for width, height in USUAL_SIZES:
        image = InputImage("", "image/png", width, height, url=url if scheme_of(url) in ("http", "https") else None)
        try:
            frame = frame_of(request, image)
        except InvalidRequestError:
            # A shape that cannot grow so says nothing of the provider.
            continue
        _check_image(provider, request, image, frame)


def checking(image: InputImage) -> Check:
    """What is known once it is read."""

    def check(provider: Provider, request: OutpaintRequest) -> None:
        frame = frame_of(request, image)
        provider.check(request, SourceKind.IMAGE)
        _check_image(provider, request, image, frame)

    return check


def _check_image(provider: Provider, request: OutpaintRequest, image: InputImage, frame: Frame) -> None:
    operation = provider.operation(SourceKind.IMAGE, request, request.provider_options)
    provider.check_image(image, frame, operation)


def by_own_id(request: OutpaintRequest) -> str:
    """A provider's own id means nothing to another provider."""
    known = request.task_id is None or request.task_id.startswith("op-")
    return "" if known else ", given the op-... id that get_task shows"


def frame_of(request: OutpaintRequest, image: InputImage) -> Frame:
    """The geometry of the new image.

    Raises:
        InvalidRequestError: it would be no larger.
    """
    frame = Frame.around(
        image.width, image.height, zoom=request.zoom, aspect_ratio=request.aspect_ratio, sides=request.sides
    )
    if not frame.grows:
        raise InvalidRequestError(
            f"The new image would be no larger than the old one ({image.width}x{image.height}).",
            "Give a zoom above 1, or another aspect_ratio.",
        )
    return frame
