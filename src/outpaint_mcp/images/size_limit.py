"""The size limit of image files, whichever way they come, and the error of one above it."""

from typing import Final

from outpaint_mcp.domain.errors import InvalidImageError

MAX_BYTES: Final = 50_000_000


def too_large(max_bytes: int) -> InvalidImageError:
    """The error of an image file of more than `max_bytes`."""
    limit = f"{max_bytes // 1_000_000} MB"
    return InvalidImageError(
        f"The image is larger than {limit}.", f"Give one of at most {limit}: save it as JPEG, or scale it down."
    )
