"""What leaves this machine with an order: of the input image no more than its provider needs."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from outpaint_mcp.domain.errors import ProviderUnavailableError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.record import Record
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.request_checks import check_file_size


@contextlib.asynccontextmanager
async def as_it_may_leave(
    images: ImageLibrary, order: Order, provider: Provider
) -> AsyncIterator[tuple[Order, tuple[str, ...]]]:
    """The order with the path of what the provider may read of the input image, and notes on that.

    That is the file itself on this machine, a clean copy if a vendor is sent its bytes, and nothing if a vendor
    fetches the image by its URL.

    Raises:
        OutpaintError: there can be no copy, or it is too large. Nothing was sent.
    """
    image, frame = order.source, order.frame
    if not isinstance(image, InputImage) or image.kind not in provider.operations:
        yield order, ()
        return
    operation = provider.operation_of(order)
    if provider.self_hosted or not provider.leaves_machine:
        path = await images.at_hand(images.source_path(image.sha256, image.mime_type))
        sent = frame if frame is None else operation.sent_frame(frame)
        yield replace(order, source=replace(image, path=str(path)), frame=sent), ()
    elif operation.max_url is not None and not provider.uploads:
        yield replace(order, source=replace(image, path="")), ()
    else:
        if order.image is None and operation.takes_url:
            # Another task's image: its URL may be dead by now, our copy is not.
            image = replace(image, url=None)
        sent = None if frame is None else operation.sent_frame(frame)
        scaled_there = operation.canvas is not None and operation.canvas.scales and image.url is not None
        async with images.clean_copy(
            image, client=order.client, frame=None if scaled_there else sent, masked=bool(operation.mask)
        ) as (clean, notes):
            check_file_size(provider.title, clean, operation.max_bytes)
            if not operation.takes_url:
                clean = replace(clean, url=image.url)
            yield replace(order, source=clean, frame=sent), notes


async def is_at_hand(images: ImageLibrary, record: Record) -> bool:
    """Whether the input image of a task is on this machine or can be fetched now."""
    image = None if record.order is None else record.order.source
    if isinstance(image, InputImage):
        try:
            await images.at_hand(images.source_path(image.sha256, image.mime_type))
        except ProviderUnavailableError:
            return False
    return True
