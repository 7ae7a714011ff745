"""A vendor over HTTP: what all adapters share. A vendor's file adds declarations and pure translations."""

import hashlib
import hmac
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import anyio
from pydantic import ValidationError

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    ContentRejectedError,
    InvalidRequestError,
    OutpaintError,
    ProviderUnavailableError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.order import InputImage, Order, StepName
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Cost, Failure, ResultImage, Status, TaskUpdate
from outpaint_mcp.providers.answers import AnswerT, is_about_content, without_empty_tail
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import ApiCall, Endpoint, HttpClient
from outpaint_mcp.providers.rejections import find_message, refusal

REMEMBERED_UPLOADS = 1000


class HttpProvider(Provider):
    """A vendor over HTTP: pure `build_*` and `parse_*` functions in the vendor's file, everything else here."""

    base_url: ClassVar[str]
    key_env: ClassVar[str]
    statuses: ClassVar[Mapping[str, Status]]
    """The vendor's words for states, in lower case."""
    error_codes: ClassVar[Mapping[str, type[OutpaintError]]] = {}
    """The vendor's own error codes."""
    uploads: ClassVar[bool] = False
    """Whether a picture of one's own is uploaded before it is ordered from."""

    def __init__(self, client: HttpClient, *, key: str | None = None, base_url: str | None = None) -> None:
        self._client = client
        self._key = key
        self._base_url = (base_url or self.base_url).rstrip("/")
        # By the order's key: asked for again, an order must name the same upload.
        self._uploaded: dict[str, str] = {}

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self._key else (self.key_env,)

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        """As of every provider; further refuses what cannot go over the wire.

        Raises:
            UnsupportedFeatureError: a feature is missing, or a value lies outside its limits.
            InvalidRequestError: `provider_options` holds a key that an argument stands for; an argument needs another
                one; a URL or an option holds a control character, or a webhook's URL is none.
        """
        super().check(request, kind)
        webhook = request.webhook
        if webhook is not None:
            if not webhook.url:
                raise InvalidRequestError("webhook_secret and webhook_events go with a webhook_url.")
            self.check_webhook_url(webhook.url)
        for name, text in (
            ("task_id", request.task_id),
            ("image", request.image),
            ("webhook_url", webhook and webhook.url),
            ("webhook_secret", webhook and webhook.secret),
            *(("provider_options", text) for text in _texts(request.provider_options)),
        ):
            if text and _CONTROL.search(text):
                raise InvalidRequestError(f"{name} must not hold control characters.")
        try:
            sent = [request.prompt, dict(request.provider_options)]
            json.dumps(sent, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError):
            raise InvalidRequestError("prompt and provider_options must be what JSON can say.") from None

    def check_webhook_url(self, url: str) -> None:
        """Refuse a URL that this vendor cannot push to.

        Raises:
            InvalidRequestError: it is no http(s) URL, or none that the vendor takes.
        """
        try:
            parts = urlsplit(url)
            # Reading the port raises ValueError where it is no number.
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            # What is before an @ is taken for the host by some readers.
            usable = usable and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable or any(char.isspace() for char in url):
            raise InvalidRequestError("webhook_url must be an http(s) URL.")

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        try:
            self.check_webhook_url(url)
        except InvalidRequestError:
            return False
        return Feature.WEBHOOK_URL in self.limits(kind)

    def called_back(self, headers: Mapping[str, str], body: bytes) -> str:
        return self.read_webhook(headers, body, self._key)

    def callback_token(self, task_id: str) -> str:
        # From the key, which nobody but this server and the vendor knows: nothing is written down, and it is the same
        # after a restart, when a lost order is asked for again in the same words.
        if self._key is None:
            return ""
        return hmac.new(self._key.encode(), f"callback/{self.name}/{task_id}".encode(), hashlib.sha256).hexdigest()

    async def start(self, order: Order) -> TaskUpdate:
        endpoint = self._endpoint(order)
        image_url: str | None = None
        if self.uploads and isinstance(order.source, InputImage):
            image_url = self._uploaded.get(order.key) or await self._upload(endpoint, order.key, order.source)
        call = self.build_upscale(order) if order.step is StepName.UPSCALE else self.build_submit(order, image_url)

        def parse(body: Any) -> TaskUpdate:
            update = self.parse_submit(body)
            if not update.remote_id:
                raise self.unexpected("it names no task")
            return update

        return _tidied(endpoint, await self._client.order(endpoint, call, parse, idempotent=self.idempotent))

    async def _upload(self, endpoint: Endpoint, key: str, picture: InputImage) -> str:
        # An upload costs nothing and orders nothing: it may be repeated like a read.
        upload = self.build_upload(picture, await anyio.Path(picture.path).read_bytes())
        url = self._uploaded[key] = self.parse_upload(await self._client.read(endpoint, upload))
        if len(self._uploaded) > REMEMBERED_UPLOADS:
            del self._uploaded[next(iter(self._uploaded))]
        return url

    async def poll(self, remote_id: str) -> TaskUpdate:
        endpoint = self._endpoint()
        try:
            body = await self._client.read(endpoint, self.build_fetch(remote_id))
        except UnknownTaskError:
            other = self.build_other_fetch(remote_id)
            if other is None:
                raise
            body = await self._client.read(endpoint, other)
        return _tidied(endpoint, replace(self.parse_fetch(body), remote_id=remote_id))

    def auth_headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def read_error(self, status: int, body: Any) -> OutpaintError | None:
        """The error that a refusal of the vendor means, or None to have it judged by its HTTP status alone.

        Called for every answer, also one with status 200, since some vendors refuse with 200.
        """
        if status in _BODY_REFUSED and is_about_content(find_message(body)):
            return refusal(ContentRejectedError, self.title, body)
        return None

    def read_webhook(self, headers: Mapping[str, str], body: bytes, key: str | None) -> str:
        """The `remote_id` that a callback is about, its signature checked with the API `key` where there is one.

        Raises:
            InvalidRequestError: it is none of this vendor's callbacks.
        """
        raise InvalidRequestError(f"{self.title} sends no webhooks.")

    @abstractmethod
    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        """The request that orders the outpaint. `image_url` is what `parse_upload` returned, if it was uploaded."""

    @abstractmethod
    def parse_submit(self, body: Any) -> TaskUpdate:
        """Read the answer to an order.

        Raises:
            UnexpectedResponseError: it names no task.
        """

    @abstractmethod
    def build_fetch(self, remote_id: str) -> ApiCall:
        """The request that asks how the order stands.

        Raises:
            UnknownTaskError: `remote_id` cannot be an id of this vendor.
        """

    def build_other_fetch(self, remote_id: str) -> ApiCall | None:
        """Where else to ask if the vendor does not know the task at the first place."""
        return None

    @abstractmethod
    def parse_fetch(self, body: Any) -> TaskUpdate:
        """Read the answer to the question how the order stands.

        Raises:
            UnexpectedResponseError: it cannot be understood.
        """

    def build_upscale(self, order: Order) -> ApiCall:
        """The request that upscales one image of a grid (`needs_upscaled`)."""
        raise NotImplementedError(f"{self.name} never needs an upscale")

    def build_upload(self, picture: InputImage, data: bytes) -> ApiCall:
        """The request that hands a picture of one's own over before the order, where the vendor has one (`uploads`)."""
        raise NotImplementedError(f"{self.name} has no upload")

    def parse_upload(self, body: Any) -> str:
        """The uploaded picture's URL."""
        raise NotImplementedError(f"{self.name} has no upload")

    # What the vendors' files are written with.

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
            return model.model_validate(body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
            raise self.unexpected(f"{where or 'the whole'} is not what its documentation says") from None

    def unexpected(self, what: str) -> UnexpectedResponseError:
        """The error for an answer of this vendor that cannot be understood."""
        return UnexpectedResponseError(f"{self.title} answered in a way that cannot be understood: {what}.")

    def failure(self, message: str, code: str | None = None) -> Failure:
        """Why a task failed, in our codes: by the vendor's code, else by its words."""
        text = message or "it gives no reason"
        kind = self.error_codes.get(code or "")
        if kind is None and is_about_content(message):
            kind = ContentRejectedError
        # What failed for no known reason is no one's promise that it works the next time.
        retryable = kind is not None and kind.retryable
        kind = kind or ProviderUnavailableError
        return Failure(
            code=kind.code, message=f"{self.title}: {text}", provider_code=code and code[:80], retryable=retryable
        )

    def update(
        self,
        word: str,
        *,
        remote_id: str | None = None,
        urls: tuple[str, ...] = (),
        grid_url: str = "",
        is_grid: bool | None = None,
        progress: float | None = None,
        failure: Failure | None = None,
        cost: Cost | None = None,
        reference: str | None = None,
        expires_at: datetime | None = None,
        notes: tuple[str, ...] = (),
    ) -> TaskUpdate:
        """What an answer says, from the vendor's `word` for the state and what came with it. `progress` is 0-100.

        `is_grid` is worked out from the number of images where it is None and there is more than one.

        Raises:
            UnexpectedResponseError: a finished task's images are no URLs, or one among them is missing.
        """
        status, words = self.status_of(word)
        notes = words + notes
        images: tuple[ResultImage, ...] = ()
        grid: ResultImage | None = None
        # Images can appear before the end; they are counted, and can be extended, only then.
        if status is Status.SUCCEEDED:
            images = tuple(self._image(url) for url in without_empty_tail(urls))
            grid = self._image(grid_url) if grid_url else None
            if not images and grid is None:
                # Of two wrong answers the one that costs nothing: "failed" would let the same order be paid again, and
                # an image that is late is found by asking on. If none ever comes the task ends as timed out.
                status = Status.RUNNING
                notes = (*notes, f"{self.title} says that the task is finished, but names no image yet.")
            elif not images:
                notes = (*notes, f"{self.title} gives the images in one picture only: see the grid.")
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
            expires_at=expires_at,
            notes=notes,
        )

    def _image(self, url: str) -> ResultImage:
        # A vendor's word must not make us open a file of this machine.
        if _IMAGE_URL.fullmatch(url) is None:
            raise self.unexpected("an image is no http(s) URL")
        return ResultImage(url)

    def _endpoint(self, order: Order | None = None) -> Endpoint:
        if not self._key:
            raise ConfigurationError(
                f"{self.title} needs the environment variable {self.key_env}.",
                "Have the operator set it, or use another provider (list_providers shows who is ready).",
            )
        if _HEADER_VALUE.fullmatch(self._key) is None:
            raise ConfigurationError(f"{self.key_env} holds characters that cannot be part of a key.")
        return Endpoint(
            self.title,
            self._base_url,
            self.auth_headers(self._key),
            self.read_error,
            secrets=_secrets_of(order),
            name=self.name,
        )


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IMAGE_URL = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f\"<>\\]{1,4000}")
_HEADER_VALUE = re.compile(r"[!-~]+")
_BODY_REFUSED = frozenset({400, 403, 422, 451})


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


def _secrets_of(order: Order | None) -> tuple[str, ...]:
    """What an order holds that no message may repeat: a webhook's secret and query, the query of a picture's URL."""
    if order is None:
        return ()
    secrets = order.webhook.secrets if order.webhook else ()
    if isinstance(order.source, InputImage) and order.source.url:
        secrets += (order.source.url.partition("?")[2],)
    return tuple(found for found in secrets if found)


def _tidied(endpoint: Endpoint, update: TaskUpdate) -> TaskUpdate:
    """The same update, its vendor's words fit to be shown."""
    failure = update.failure
    if failure is not None:
        code = failure.provider_code and endpoint.tidy(failure.provider_code)
        failure = failure.model_copy(update={"message": endpoint.tidy(failure.message), "provider_code": code})
    return replace(update, failure=failure, notes=tuple(endpoint.tidy(note) for note in update.notes))
