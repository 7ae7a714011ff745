"""Keeps secrets out of what is shown."""

from collections.abc import Iterable
from urllib.parse import unquote


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets, percent-encoded or not."""
    known = {form for secret in secrets for form in (secret, unquote(secret)) if form}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
