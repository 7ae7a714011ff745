"""Gives out the server's copies of tasks' images at their signed addresses, which need no token."""

from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from outpaint_mcp.domain.errors import InvalidImageError, OutpaintError, UnknownTaskError
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.tasks.image_links import ExpiredLinkError
from outpaint_mcp.web.refusals import refusal

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}


class ImageRoute:
    """Answers GET and HEAD: 404 for an address that was not made here, 410 for one that is over or whose image is.

    With ``?download`` in its query a browser saves the image instead of showing it.

    Args:
        lazy: the service.
    """

    def __init__(self, lazy: LazyService) -> None:
        self._lazy = lazy

    async def answer(self, request: Request) -> Response:
        try:
            service = await self._lazy.get()
            path, mime_type = await service.linked_image(request.path_params["token"], request.path_params["name"])
            status = await path.stat()
        except UnknownTaskError as error:
            return _refusal(404, error)
        except (ExpiredLinkError, InvalidImageError) as error:
            return _refusal(410, error)
        except OSError:
            return _refusal(410, InvalidImageError("The image is no longer on this server.", "Order it again."))
        except OutpaintError as error:
            return _refusal(503, error)
        return FileResponse(
            path,
            media_type=mime_type,
            stat_result=status,
            filename=request.path_params["name"],
            content_disposition_type="attachment" if "download" in request.query_params else "inline",
            headers={**_HEADERS, "Cache-Control": "private, max-age=3600"},
        )


def _refusal(status: int, error: OutpaintError) -> Response:
    return refusal(status, error, {**_HEADERS, "Cache-Control": "no-store"})
