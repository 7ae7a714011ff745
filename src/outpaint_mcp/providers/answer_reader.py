"""How a vendor's answers are read: its words for states, its images, its rejections and its webhooks. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from pydantic import ValidationError

from outpaint_mcp.domain.errors import (
    InvalidRequestError,
    OutpaintError,
    ProviderUnavailableError,
    UnexpectedResponseError,
)
from outpaint_mcp.domain.task import Cost, Failure, ResultImage, Status, TaskUpdate
from outpaint_mcp.providers.account import Balance
from outpaint_mcp.providers.answers import AnswerT, webhook_id, webhook_json, without_empty_tail
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.calls import MAX_IMAGES, quoted
from outpaint_mcp.providers.money import MAYBE_STATUSES
from outpaint_mcp.providers.rejections import ERRORS_BY_STATUS, find_code, find_message, rejection
from outpaint_mcp.providers.words import CONTENT, PARAMETERS, Meaning, meaning_of

_IMAGE_URL = re.compile(r"https?://[!#-;=?-\[\]^-~]{1,4000}", re.IGNORECASE)
_KEPT_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
MAX_SHOWN: Final = 200
_BODY_REJECTED = frozenset({400, 403, 422, 451})
_NOT_NOW = frozenset({429, 503})


def status_words(**words: str) -> dict[str, Status]:
    """A vendor's table of states: for each of our statuses its words, in lower case, with spaces between."""
    return {word: Status(status) for status, listed in words.items() for word in listed.split()}


class AnswerReader(Provider):
    """The half of `HttpProvider` that reads answers; a vendor's `parse_*` functions are written with it."""

    envelope: ClassVar[str] = ""
    """The field in which the vendor may wrap the object that it answers with."""
    webhook_id_field: ClassVar[str] = ""
    """The field of an unsigned webhook that names the task."""
    statuses: ClassVar[Mapping[str, Status]]
    """The vendor's words for states, in lower case."""
    error_codes: ClassVar[Mapping[str, type[OutpaintError]]] = {}
    """The vendor's own error codes."""

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        """The error that an answer means, or None to go by its HTTP status alone.

        Called for every answer, also one with status 200, since some vendors reject under 200. Here the vendor's words
        decide where they say more than the status does.
        """
        meaning = _refusal(body) if status in _BODY_REJECTED | _NOT_NOW else None
        if meaning is None or (status in _NOT_NOW and meaning is CONTENT):
            return None
        return rejection(meaning.kind, self.title, body, meaning.advice)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        """The `remote_id` that a callback is about, its signature checked with the API `key` where there is one.

        Raises:
            InvalidRequestError: it is none of this vendor's callbacks.
        """
        if not self.webhook_id_field:
            raise InvalidRequestError(f"{self.title} sends no webhooks.")
        return webhook_id(self.title, self.unwrapped(webhook_json(self.title, body)).get(self.webhook_id_field))

    def status_of(self, word: str) -> tuple[Status, tuple[str, ...]]:
        """Our status for the vendor's word, compared without case; an unlisted word is `running`, with a note."""
        status = self.statuses.get(word.strip().lower())
        if status is not None:
            return status, ()
        return Status.RUNNING, (f"{self.title} reports the state {word[:40]!r}, which is not in its documentation.",)

    def read_as(self, model: type[AnswerT], body: Any) -> AnswerT:
        """The vendor's answer as `model`.

        Raises:
            UnexpectedResponseError: it does not fit; the message names the field, never its value.
        """
        try:
            return model.model_validate(self.unwrapped(body))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
            raise self.unexpected(f"{where or 'the whole'} is not what its documentation says") from None

    def unwrapped(self, body: Any) -> Any:
        """An answer without the vendor's envelope."""
        inner = body.get(self.envelope) if isinstance(body, dict) else None
        return inner if isinstance(inner, dict) else body

    def rejected(self, body: Any, code: object = None) -> OutpaintError:
        """The error for a rejection that came under HTTP 200, by the `code` in its body as if that were the status.

        A server error (`MAYBE_STATUSES`) leaves open whether the order was taken, whatever its words. Otherwise the
        words decide; where they have no meaning and the code is not known, the request was at fault.
        """
        status = int(str(code)) if str(code).isdecimal() else 400
        if status in MAYBE_STATUSES:
            return rejection(ProviderUnavailableError, self.title, body)
        meaning = _refusal(body) or Meaning(ERRORS_BY_STATUS.get(status, InvalidRequestError))
        return rejection(meaning.kind, self.title, body, meaning.advice)

    def parse_account(self, body: Any) -> Balance | None:
        """The balance in the answer from `account_path`; None where the vendor tells none there.

        Raises:
            UnexpectedResponseError: it cannot be understood.
        """
        raise NotImplementedError(f"{self.name} says nothing of an account")

    def balance(self, amount: float | None, unit: str, usd_per_unit: float | None = None) -> Balance:
        """So many units left.

        Raises:
            UnexpectedResponseError: the answer does not say how many.
        """
        if amount is None:
            raise self.unexpected("it names no balance")
        return Balance(amount, unit, None if usd_per_unit is None else amount * usd_per_unit)

    def unexpected(self, what: str) -> UnexpectedResponseError:
        """The error for an answer of this vendor that cannot be understood."""
        return UnexpectedResponseError(f"{self.title} answered in a way that cannot be understood: {what}.")

    def failure(self, message: str, code: str | None = None) -> Failure:
        """Why a task failed, in our codes: by the vendor's code, else by its words.

        A code that says no more than that it failed gives way to words that say why.
        """
        text = f"{self.title}: {quoted(message)}." if message.strip() else f"{self.title} gives no reason."
        kind = self.error_codes.get(code or "")
        if kind in (None, ProviderUnavailableError) and (meaning := meaning_of(message, code)) is not None:
            kind = meaning.kind
            text = f"{text} {meaning.advice or ''}".rstrip()
        # What failed for no known reason may fail again.
        retryable = kind is not None and kind.retryable
        kind = kind or ProviderUnavailableError
        return Failure(code=kind.code, message=text, provider_code=code, retryable=retryable)

    def update(
        self,
        word: str,
        *,
        remote_id: str | None = None,
        urls: tuple[str, ...] = (),
        grid_url: str = "",
        is_grid: bool | None = None,
        zooms: bool | None = None,
        progress: float | None = None,
        failure: Failure | None = None,
        cost: Cost | None = None,
        reference: str | None = None,
        expires_at: datetime | None = None,
        notes: tuple[str, ...] = (),
    ) -> TaskUpdate:
        """What an answer says, from the vendor's `word` for the state and what came with it. `progress` is 0-100.

        `is_grid` is worked out from the number of images where it is None and there is more than one. The only image of
        what is known not to be a grid may stand where other tasks have their grid.

        Raises:
            UnexpectedResponseError: the answer cannot be understood.
        """
        status, words = self.status_of(word)
        notes = words + notes
        images: tuple[ResultImage, ...] = ()
        grid: ResultImage | None = None
        if is_grid is False:
            urls, grid_url = urls if any(urls) else (grid_url,), ""
        # Images can appear before the end; they are counted, and can be extended, only then.
        if status is Status.SUCCEEDED:
            urls = without_empty_tail(urls)
            told = [self._image(url) for url in (*urls[:MAX_IMAGES], grid_url)]
            places = enumerate(told[:-1], start=1)
            images = tuple(replace(image, index=place) for place, image in places if image is not None)
            grid = told[-1]
            if len(urls) > MAX_IMAGES:
                notes = (*notes, f"{self.title} names {len(urls)} images; only the first {MAX_IMAGES} are taken.")
            for index, (url, image) in enumerate(zip((*urls[:MAX_IMAGES], grid_url), told, strict=True), start=1):
                if image is None and (url or index < len(told)):
                    # Paid for, so it is told as it is: nobody would find it otherwise.
                    which = f"image {index}" if index < len(told) else "the grid"
                    notes = (*notes, f"The address of {which} cannot be opened: {url.strip()[:MAX_SHOWN]!r}")
            if not images and grid is None and not any(url.strip() for url in (*urls, grid_url)):
                # "Failed" would let the same order be paid again, while an image that is late is found by the next
                # poll. If none ever comes the task ends as timed out.
                status = Status.RUNNING
                notes = (*notes, f"{self.title} says that the task is finished, but names no image yet.")
            elif not images and grid is not None:
                notes = (*notes, f"{self.title} gives the images in one grid image only: see grid.")
        if len(images) > 1:
            is_grid = True
        return TaskUpdate(
            status,
            remote_id,
            progress=100.0 if status is Status.SUCCEEDED else None if progress is None else min(max(progress, 0), 100),
            images=images,
            grid=grid,
            cost=cost,
            failure=(failure or self.failure("")) if status is Status.FAILED else None,
            reference=reference,
            is_grid=is_grid if status is Status.SUCCEEDED else None,
            zooms=zooms if status is Status.SUCCEEDED else None,
            expires_at=expires_at,
            notes=notes,
        )

    @staticmethod
    def _image(url: str) -> ResultImage | None:
        """The image at an address, cleaned up; None if it is no http(s) URL even then."""
        url = url.strip()
        url = quote(f"https:{url}" if url.startswith("//") else url, safe=_KEPT_IN_URLS)
        # A vendor's answer must not make us open a file of this machine.
        return ResultImage(url) if _IMAGE_URL.fullmatch(url) is not None else None


def _refusal(body: Any) -> Meaning | None:
    """What the words of a refusal mean. That parameters are wrong is also said of keys and tokens: the status knows."""
    meaning = meaning_of(find_message(body), find_code(body))
    return None if meaning is PARAMETERS else meaning
