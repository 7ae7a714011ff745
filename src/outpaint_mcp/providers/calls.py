"""A request to a vendor, and the vendor's endpoint that it is sent to. Values only: nothing is sent here."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.redaction import hide
from outpaint_mcp.domain.task import TaskUpdate

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
MAX_MESSAGE: Final = 400
MAX_QUOTED: Final = 200
MAX_CODE: Final = 80
MAX_NOTES: Final = 20
MAX_UNIT: Final = 40
MAX_IMAGES: Final = 16
ID: Final = re.compile(r"[!-~]{1,200}")
"""What a vendor may name a task, and what it may name besides."""
_LONGEST_PART: Final = 5_000


@dataclass(frozen=True, slots=True)
class UploadFile:
    """One file of a multipart request: the form field's name, a file name, its type and its bytes."""

    field_name: str
    file_name: str
    mime_type: str
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, field_name: str, mime_type: str, data: bytes) -> Self:
        """A file that is named as its field."""
        return cls(field_name, f"{field_name}.{mime_type.partition('/')[2]}", mime_type, data)


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One HTTP request to a vendor, without the base URL and the key: `path` begins with a slash.

    `headers` go before those that every request has, such as ``accept: application/json``. With `form` or `files` it
    is a multipart form. `base_url` goes before the endpoint's, where the vendor's own answer named another of its
    hosts: the key is sent there.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    files: tuple[UploadFile, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A vendor as the HTTP client sees it.

    Args:
        title: the vendor's name, as it stands in messages.
        base_url: without a slash at the end.
        headers: what every request carries; the key is among them.
        read_error: the error that an answer means (also one with status 200), or None to go by the status alone.
        secrets: what must not come back in a message: the key, and what an order holds in secret.
        name: what the vendor is called in metrics and traces.
        order_seconds: the timeout of a whole order, in place of the client's own; the vendor may be silent for as long.
        max_answer_bytes: the largest answer that is read.
        answers_with_images: whether an answer may be an image, which is then handed on as its bytes.
        is_near: whether it is on this machine or its network: no proxy of the environment's is used.
    """

    title: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    read_error: Callable[[int, Any], OutpaintError | None] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    name: str = ""
    order_seconds: float | None = None
    max_answer_bytes: int = MAX_ANSWER_BYTES
    answers_with_images: bool = False
    is_near: bool = False

    def tidy(self, text: str) -> str:
        """A text that holds a vendor's words, fit to be shown: one line, bounded, none of our secrets.

        What is `quoted` in it has at most `MAX_QUOTED` characters, and cannot end its own quotation.
        """
        keys = [value.removeprefix("Bearer ") for value in self.headers.values()]
        text = hide(text, (*keys, *self.secrets))
        if len(text) > 2 * _LONGEST_PART:
            # The end is ours: it closes the quotation.
            text = f"{text[:_LONGEST_PART]} {text[-_LONGEST_PART:]}"
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        ours, opened, rest = line.partition("“")
        words, closed, end = rest.rpartition("”")
        if opened and not closed:
            words, end = rest, ""
        if opened:
            line = ours + quoted(_cut(words.replace("“", "'").replace("”", "'"), MAX_QUOTED)) + end
        return _cut(line, MAX_MESSAGE)

    def tidied(self, update: TaskUpdate) -> TaskUpdate:
        """The same update, what is the vendor's in it bounded and fit to be shown."""
        failure = update.failure
        if failure is not None:
            code = self.tidy_code(failure.provider_code)
            failure = failure.model_copy(update={"message": self.tidy(failure.message), "provider_code": code})
        cost = update.cost and update.cost.model_copy(update={"unit": self.tidy(update.cost.unit[:MAX_UNIT])})
        return replace(
            update,
            failure=failure,
            notes=tuple(self.tidy(note) for note in update.notes[:MAX_NOTES]),
            images=update.images[:MAX_IMAGES],
            reference=update.reference if update.reference and ID.fullmatch(update.reference) else None,
            cost=cost,
        )

    def tidy_code(self, code: str | None) -> str | None:
        """A vendor's own code, fit to be shown, in at most `MAX_CODE` characters."""
        return None if code is None else _cut(self.tidy(code), MAX_CODE)


def data_uri(mime_type: str, data: bytes) -> str:
    """The bytes as a ``data:`` URI."""
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def quoted(text: str) -> str:
    """A vendor's words as the vendor's, within a sentence of ours."""
    return f"“{text}”"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
