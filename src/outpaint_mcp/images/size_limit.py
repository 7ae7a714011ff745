"""The largest file that is taken in, whichever way it comes, and the one sentence that says so. Knows nothing else."""

from typing import Final

from outpaint_mcp.domain.errors import InvalidImageError

MAX_BYTES: Final = 50_000_000


def too_large(max_bytes: int) -> InvalidImageError:
    """The error for a picture's file above the cap of so many bytes."""
    return InvalidImageError(f"The picture is larger than {max_bytes // 1_000_000} MB.", "Give a smaller picture.")
