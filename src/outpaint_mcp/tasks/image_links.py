"""The http(s) addresses at which this server gives out its copies of tasks' images, to whoever has one. Pure.

An address needs no token: it is signed for one image of one task, cannot be guessed, and is valid for a day.
"""

import base64
import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from outpaint_mcp.domain.errors import ConfigurationError, InvalidRequestError, UnknownTaskError
from outpaint_mcp.domain.references import TaskReference

IMAGES_PATH: Final = "/images"
VALID_SECONDS: Final = 86_400
KEY_BYTES: Final = 32
STEP_SECONDS: Final = 3600
"""Addresses that are made within an hour are the same, so that a task that is asked for again is too."""
_TOKEN: Final = re.compile(r"([0-9]{1,12})-([0-9a-f]{32})")
_NAME: Final = re.compile(r"(op-[A-Za-z0-9_-]{22})-([0-9]{1,3})\.[a-z0-9]{1,5}")


class ExpiredLinkError(InvalidRequestError):
    """The address of an image was valid once."""


class ImageLinks:
    """Mints the addresses and judges them.

    Args:
        base_url: the server's, as clients reach it.
        keys: what they are signed with, the first of them; what was signed with another is valid too.
        now: seconds since the epoch.
    """

    def __init__(self, base_url: str, *keys: bytes, now: Callable[[], float] = time.time) -> None:
        self._prefix = base_url.rstrip("/") + IMAGES_PATH + "/"
        self._keys = keys
        self.now = now

    def expiry(self) -> datetime:
        """Until when an address is valid that is made now: for a day, or up to an hour longer."""
        return datetime.fromtimestamp(self._expires(), UTC)

    def _expires(self) -> int:
        return math.ceil((self.now() + VALID_SECONDS) / STEP_SECONDS) * STEP_SECONDS

    def url(self, task_id: str, index: int, mime_type: str) -> str:
        """The address of a task's image; it ends in a file's name, since some clients go by that."""
        name, expires = f"{task_id}-{index}.{mime_type.rpartition('/')[2]}", self._expires()
        return f"{self._prefix}{expires}-{_signature(self._keys[0], expires, name)}/{name}"

    def judged(self, token: str, name: str) -> tuple[str, int]:
        """The task and the image that an address stands for, given as the two parts of its path.

        Raises:
            UnknownTaskError: it was not made here.
            ExpiredLinkError: it was, and is no longer valid.
        """
        parts, named = _TOKEN.fullmatch(token), _NAME.fullmatch(name)
        expires = 0 if parts is None else int(parts[1])
        given = "" if parts is None else parts[2]
        signed = [hmac.compare_digest(_signature(key, expires, name), given) for key in self._keys]
        if not any(signed) or named is None:
            raise UnknownTaskError(
                "There is no image at this address.", "Copy it whole, as the task shows it: get_task shows it again."
            )
        if self.now() >= expires:
            raise ExpiredLinkError(
                f"This address was valid until {datetime.fromtimestamp(expires, UTC).isoformat()}.",
                f"Call get_task with task_id={named[1]}: it shows a new one.",
            )
        return named[1], int(named[2])

    def reference(self, text: str) -> TaskReference | None:
        """The image that an address of ours names, valid or not; None if it is none."""
        _, ours, rest = text.strip().partition(self._prefix)
        named = _NAME.fullmatch(rest.partition("?")[0].rpartition("/")[2])
        return None if not ours or named is None else TaskReference(named[1], int(named[2]))


def shared_keys(seal_keys: str) -> tuple[bytes, ...]:
    """The keys of servers that share the address, each derived from one of `OUTPAINT_SEAL_KEY`.

    Raises:
        ConfigurationError: one of those is none, so the addresses could be guessed.
    """
    try:
        found = [base64.b64decode(key.strip(), validate=True) for key in seal_keys.split(",")]
    except ValueError:
        found = []
    if not found or any(len(key) != KEY_BYTES for key in found):
        raise ConfigurationError(
            "OUTPAINT_SEAL_KEY is no key.", "Make one with outpaint-mcp db key, and give every server the same."
        )
    return tuple(hmac.new(key, b"outpaint-mcp image links", hashlib.sha256).digest() for key in found)


def _signature(key: bytes, expires: int, name: str) -> str:
    signed = f"{expires}/{name}".encode(errors="surrogateescape")
    return hmac.new(key, signed, hashlib.sha256).hexdigest()[:32]
