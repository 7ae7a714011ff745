"""Draws what self-hosted engines go on with: a canvas with a first fill by the local engine, and the mask of it."""

import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from outpaint_mcp.domain.errors import ConfigurationError, ProviderUnavailableError
from outpaint_mcp.domain.order import InputImage, Order
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.images.fair_queue import Place
from outpaint_mcp.images.shelves import AtHand, as_it_is
from outpaint_mcp.providers.local.draw_error import DrawError
from outpaint_mcp.providers.local.plan import Canvas
from outpaint_mcp.providers.local.workers import DrawJob, Workers


@dataclass(frozen=True, slots=True)
class DrawnCanvas:
    """A canvas and its mask, which is white where there is to be painted, as PNGs of the padded size; and notes."""

    picture: bytes = field(repr=False)
    mask: bytes = field(repr=False)
    notes: tuple[str, ...] = ()


class Canvases:
    """Draws canvases in the local engine's processes.

    Args:
        folder: where they are drawn; nothing stays there.
        workers: the processes.
        at_hand: fetches the image at an order's path if it is not on this machine.
    """

    def __init__(self, folder: Path, workers: Workers, *, at_hand: AtHand = as_it_is) -> None:
        self._folder = folder / "canvases"
        self._workers = workers
        self._at_hand = at_hand

    async def draw(self, order: Order, working: WorkingCanvas, *, mask_in_alpha: bool = False) -> DrawnCanvas:
        """The canvas of an order for an input image, which is read at its `path`.

        With `mask_in_alpha` the canvas is transparent where there is to be painted; the colours there are kept.

        Raises:
            TypeError: the order is for a task's image.
            InvalidImageError: the image cannot be decoded.
            RateLimitedError: too many images of this client wait already.
            ProviderUnavailableError: it cannot be drawn now, or the image not be fetched.
            ConfigurationError: our own folder cannot be written.
        """
        if not isinstance(order.source, InputImage) or order.frame is None:
            raise TypeError("a task's image lies on no canvas")
        frame = working.placed(order.frame)
        own = order.source.width, order.source.height
        folder = self._folder / secrets.token_hex(8)
        job = DrawJob(
            await self._at_hand(Path(order.source.path)),
            Canvas.of(frame),
            # The engine draws over it: what it needs are colours and lines.
            "fast",
            (0,),
            folder,
            size=None if own == (frame.width, frame.height) else (frame.width, frame.height),
            masked="within" if mask_in_alpha else "beside",
        )
        notes: list[str] = []
        place: Place = self._workers.queue.join(order.client)
        try:
            (drawn,) = await self._workers.draw(job, lambda part: None, place=place, on_note=notes.append)
            if drawn.mask is None:
                raise DrawError("The mask was not drawn.")
            picture, mask = await anyio.Path(drawn.path).read_bytes(), await anyio.Path(drawn.mask).read_bytes()
        except DrawError as error:
            raise ProviderUnavailableError(f"The canvas could not be drawn. {error.message}", "Order again.") from error
        except OSError as error:
            raise ConfigurationError(
                f"The canvas could not be stored ({error.strerror or error}).",
                "Have the operator look at the data folder and the disk.",
            ) from error
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        return DrawnCanvas(picture, mask, tuple(notes))
