"""Refuses what cannot be sent to any vendor: control characters, values that JSON lacks, URLs that are none. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from outpaint_mcp.domain.errors import InvalidRequestError, UnsupportedFeatureError
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.request import OutpaintRequest

NOT_JSON: Final = "prompt or provider_options holds a value that cannot be sent as JSON."
JSON_VALUES: Final = "Use text, finite numbers, true, false, null, lists and objects only."
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_texts(request: OutpaintRequest) -> None:
    """Refuse texts that would not arrive as they were given. A prompt may have several lines, nothing else may.

    Raises:
        InvalidRequestError: a text holds a control character, or a value cannot be written as JSON.
    """
    webhook = request.webhook
    for name, text in (
        ("task_id", request.task_id),
        ("image", request.image),
        ("webhook_url", webhook and webhook.url),
        ("webhook_secret", webhook and webhook.secret),
        *(("provider_options", text) for text in _texts(request.provider_options)),
    ):
        if text and _CONTROL.search(text):
            raise InvalidRequestError(f"{name} must not hold control characters.", "Write plain text, in one line.")
    try:
        sent = [request.prompt, dict(request.provider_options)]
        json.dumps(sent, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequestError(NOT_JSON, JSON_VALUES) from None


def check_webhook_url(url: str) -> None:
    """Refuse what is no http(s) URL that a vendor can call.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        parts = urlsplit(url)
        # Reading the port raises ValueError where it is no number.
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # Some parsers take what is before an @ for the host.
        usable = usable and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or any(char.isspace() for char in url):
        raise InvalidRequestError("webhook_url must be an http(s) URL.", "Give one such as https://example.com/done.")


def check_image_url(title: str, url: str, longest: int) -> None:
    """Refuse an input image that a vendor cannot fetch.

    Args:
        title: the vendor's name.
        url: the image's, or anything else that was given as `image`.
        longest: the most characters that the URL may have.

    Raises:
        UnsupportedFeatureError: it is no http(s) URL, or too long.
    """
    try:
        usable = urlsplit(url).scheme.lower() in ("http", "https")
    except ValueError:
        usable = False
    if not usable or len(url) > longest:
        raise UnsupportedFeatureError(
            f"{title} takes your own image only by a public http(s) URL of at most {longest} characters.",
            "Give the URL of the image on the web.",
        )


def check_file_size(title: str, image: InputImage, most: int | None) -> None:
    """Refuse an image whose file is larger than `most` bytes, the vendor's limit if it has one.

    Raises:
        UnsupportedFeatureError: it is. The advice names a size in pixels that would fit.
    """
    if most is None or image.size <= most:
        return
    part = 0.95 * (most / image.size) ** 0.5
    fitting = f"{max(1, int(image.width * part))}x{max(1, int(image.height * part))}"
    as_jpeg = "" if image.mime_type == "image/jpeg" else "save it as JPEG, or "
    raise UnsupportedFeatureError(
        f"{title} takes your own images of up to {most // 10**6} MB; this one has {image.size:,} bytes "
        f"as {image.mime_type.partition('/')[2].upper()}, without what the file holds besides.",
        f"Give a smaller image: {as_jpeg}scale it down to {fitting} or less.",
    )


def _texts(value: Any) -> Iterator[str]:
    """Every string within a JSON value, keys included."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            left += item
