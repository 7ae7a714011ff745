"""The header `Retry-After`, of vendors and of image hosts."""

import re
from email.utils import parsedate_to_datetime


def read_retry_after(header: str | None, now: float) -> float | None:
    """Seconds from `now` (Unix time); None where the header is missing or cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
