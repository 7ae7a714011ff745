"""Request bodies of the vendors, checked strictly, and the errors by which a vendor rejects one."""

import json
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from outpaint_mcp.sandbox.loopback import is_http_url


def _http_url(value: str) -> str:
    if not is_http_url(value):
        raise ValueError("must be an http or https URL")
    return value


def _uuid(value: str) -> str:
    if str(uuid.UUID(value)) != value.lower():
        raise ValueError("must be a UUID")
    return value


_LONGEST_TEXT = 1024 * 1024

Text = Annotated[str, Field(min_length=1, max_length=8192)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Uuid = Annotated[str, AfterValidator(_uuid)]


class Body(BaseModel):
    """A request body: unknown fields and wrong types are rejected, `1` is no string and `true` no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_B = TypeVar("_B", bound=Body)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a body: `path` in dots, `kind` is `missing`, `unknown` or `invalid`."""

    path: str
    kind: str
    message: str

    @property
    def field(self) -> str:
        return self.path.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def located(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems as vendors list them whose bodies are checked by FastAPI: place, message and kind of each."""
    return [
        {"loc": ["body", *problem.path.split(".")], "msg": problem.message, "type": problem.kind}
        for problem in problems
    ]


class MalformedBodyError(Exception):
    """A body is not what the vendor's documentation allows; it has at least one problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


class RejectedError(Exception):
    """The vendor rejects a request; the vendor's `rejection` gives it its shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: int | str | None = None,
        problems: Sequence[Problem] = (),
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.problems = tuple(problems)
        self.extra = extra or {}


def json_or_none(raw: bytes) -> Any:
    """`raw` as JSON, None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def parse_body(model: type[_B], content_type: str, raw: bytes) -> _B:
    """A request's body as `model`.

    Raises:
        MalformedBodyError: it is not sent as JSON, is no JSON, or does not fit the model.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise MalformedBodyError([Problem("", "invalid", "the body must be sent as application/json")])
    try:
        data = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedBodyError([Problem("", "invalid", "the body is no JSON")]) from None
    return check_body(model, data)


async def parse_form(model: type[_B], request: Request, files: Collection[str]) -> tuple[_B, dict[str, bytes]]:
    """A multipart form: its text fields as `model`, and the bytes of the `files` among its fields.

    Raises:
        MalformedBodyError: it is no form, has a field twice or a file where a text belongs, or does not fit the model.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise MalformedBodyError([Problem("", "invalid", "the body must be sent as multipart/form-data")])
    texts: dict[str, str] = {}
    found: dict[str, bytes] = {}
    try:
        async with request.form(max_files=20, max_fields=50, max_part_size=_LONGEST_TEXT) as form:
            for name, value in form.multi_items():
                is_file = isinstance(value, UploadFile)
                if name in texts or name in found or is_file is not (name in files):
                    raise MalformedBodyError([Problem(name, "invalid", "given twice, or not the kind of field it is")])
                if isinstance(value, UploadFile):
                    found[name] = await value.read()
                else:
                    texts[name] = value
    except (MultiPartException, HTTPException) as error:
        told = error.message if isinstance(error, MultiPartException) else str(error.detail)
        raise MalformedBodyError([Problem("", "invalid", told)]) from None
    return _checked(model.model_validate_strings, texts), found


def check_body(model: type[_B], data: Any) -> _B:
    """Parsed JSON as `model`.

    Raises:
        MalformedBodyError: it does not fit.
    """
    return _checked(model.model_validate, data)


def _checked(validate: Callable[[Any], _B], data: Any) -> _B:
    try:
        return validate(data)
    except ValidationError as error:
        kinds = {"missing": "missing", "extra_forbidden": "unknown"}
        raise MalformedBodyError(
            [
                Problem(".".join(map(str, found["loc"])), kinds.get(found["type"], "invalid"), found["msg"])
                for found in error.errors(include_url=False, include_context=False)
            ]
        ) from None


def _no_constant(name: str) -> float:
    raise ValueError(name)
