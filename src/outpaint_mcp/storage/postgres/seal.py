"""What other processes need of a task and nobody else may read: the client's webhook and the input image's whole URL.

Sealed with AES-256-GCM (https://cryptography.io/en/latest/hazmat/primitives/aead/) under a key that all processes are
given; it is bound to its task, so that a sealed text that is moved to another one does not open.
"""

import base64
import binascii
import json
import secrets
from dataclasses import asdict
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.record import Secrets
from outpaint_mcp.domain.request import Webhook

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def new_key() -> str:
    """A key as `OUTPAINT_SEAL_KEY` wants it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Seal:
    """Seals with the first of the keys, and opens what was sealed with any of them.

    Args:
        keys: as `new_key` makes them, separated by commas: a new one is put before the old one, which is left out when
            no task is open any more that was ordered before.

    Raises:
        ConfigurationError: one of them is none.
    """

    def __init__(self, keys: str) -> None:
        try:
            found = [base64.b64decode(key.strip(), validate=True) for key in keys.split(",")]
        except (binascii.Error, ValueError):
            found = []
        if not found or any(len(key) != KEY_BYTES for key in found):
            raise ConfigurationError(
                "OUTPAINT_SEAL_KEY is no key.",
                "Make one with outpaint-mcp db key, and give every server and worker the same.",
            )
        self._ciphers = [AESGCM(key) for key in found]

    def seal(self, task_id: str, kept: Secrets | None) -> bytes | None:
        """What may be stored of a task's secrets."""
        if kept is None:
            return None
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = json.dumps(asdict(kept)).encode()
        return nonce + self._ciphers[0].encrypt(nonce, text, task_id.encode())

    def open(self, task_id: str, sealed: bytes | None) -> Secrets | None:
        """A task's secrets; None if there are none, or they were sealed with a key that is no longer given."""
        if sealed is None:
            return None
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], task_id.encode())
            except InvalidTag:
                continue
            found = json.loads(text)
            webhook = found["webhook"]
            if webhook is not None:
                webhook = Webhook(webhook["url"], webhook["secret"], tuple(webhook["events"]))
            return Secrets(webhook, found["image_url"])
        return None
