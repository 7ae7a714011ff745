"""How vendors' answers are read and their requests written: what several vendors' files share. Pure."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, model_validator

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.domain.task import Cost

WEBHOOK_TOLERANCE = 300.0
"""Seconds by which a webhook's time may differ from ours: what fal documents (November 2026), and others do not say."""
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[!-~]{1,200}")


class Answer(BaseModel):
    """Base of the private models of vendors' answers: what is not named is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        """A null stands for the field's default, where it has one."""
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        given = [key for key, one in data.items() if one is not None or key not in fields or fields[key].is_required()]
        return {key: data[key] for key in given}


AnswerT = TypeVar("AnswerT", bound=Answer)


def usd_cost(amount: float | None, unit: str, usd_per_unit: float | None) -> Cost | None:
    """What an order took, in USD too where the unit's price is known; None where the answer does not say."""
    if amount is None:
        return None
    return Cost(amount=amount, unit=unit, usd=None if usd_per_unit is None else round(amount * usd_per_unit, 6))


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value; names are compared without case."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def webhook_json(title: str, body: bytes) -> Any:
    """
    Raises:
        InvalidRequestError: the body is no JSON object.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidRequestError(f"A callback of {title} is a JSON object.")
    return data


def webhook_id(title: str, value: object) -> str:
    """
    Raises:
        InvalidRequestError: `value` is no task id.
    """
    if not isinstance(value, str) or _PATH_SEGMENT.fullmatch(value) is None:
        raise InvalidRequestError(f"The callback of {title} names no task.")
    return value


def check_webhook_time(title: str, sent: str | None, now: float) -> None:
    """Refuse a callback that was not sent just now; both times in Unix seconds.

    Raises:
        InvalidRequestError: it was sent at another time, or does not say when.
    """
    at = _to_number(sent)
    if at is None or abs(now - at) > WEBHOOK_TOLERANCE:
        raise InvalidRequestError(f"The callback of {title} was not sent within the last minutes.")


def _none_to_empty(value: Any) -> Any:
    return "" if value is None else value


def _to_number(value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip().removesuffix("%")
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if isinstance(value, bool) or not math.isfinite(number) else number


def _to_code(value: Any) -> str | None:
    given = isinstance(value, int | str) and not isinstance(value, bool) and value not in (0, "", "0")
    return str(value) if given else None


def _to_urls(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return (_none_to_empty(value),)
    return tuple(_none_to_empty(url) for url in value)


def _to_moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Id = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
Text = Annotated[str, BeforeValidator(_none_to_empty)]
"""A string; null is an empty one."""
Number = Annotated[float | None, BeforeValidator(_to_number)]
"""A number, also written as a string or with a percent sign; None for anything else."""
Moment = Annotated[datetime | None, BeforeValidator(_to_moment)]
"""A time as ISO 8601 or in Unix seconds; None for anything else."""
Code = Annotated[str | None, BeforeValidator(_to_code)]
"""An error code; 0 and "" mean that there is none."""
Urls = Annotated[tuple[str, ...], BeforeValidator(_to_urls)]
"""A list of URLs, also a bare one; null is an empty URL."""


class JobError(Answer):
    """Why a job failed, as PiAPI and the vendors that follow it say it."""

    code: Code = None
    message: Text = ""
    raw_message: Text = ""

    @property
    def text(self) -> str:
        return self.message or self.raw_message


class _JobUsage(Answer):
    frozen: Number = None
    consume: Number = None


class _JobMeta(Answer):
    usage: _JobUsage | None = None


class Job(Answer):
    """What PiAPI and the vendors that follow it tell of any job; `frozen` is set aside, `consume` is taken."""

    status: Text
    task_type: Text = ""
    error: JobError = JobError()
    meta: _JobMeta | None = None

    @property
    def usage(self) -> _JobUsage:
        return (self.meta and self.meta.usage) or _JobUsage()


def without_empty_tail(urls: tuple[str, ...]) -> tuple[str, ...]:
    """The URLs up to the last that is one."""
    # A hole inside the list is another matter: the place says which image of the grid it is.
    last = max((place for place, url in enumerate(urls, 1) if url), default=0)
    return urls[:last]
