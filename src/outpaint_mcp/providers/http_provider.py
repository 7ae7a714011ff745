"""A vendor over HTTP: how its orders, polls and uploads are sent. A vendor's file adds declarations and `parse_*`."""

import hashlib
import hmac
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread

from outpaint_mcp.domain.errors import (
    ConfigurationError,
    ContentRejectedError,
    InvalidImageError,
    InvalidRequestError,
    UnexpectedResponseError,
    UnknownTaskError,
)
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import InputImage, Order, Parent, StepName
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind
from outpaint_mcp.domain.task import Failure, Status, TaskUpdate
from outpaint_mcp.providers.account import Balance
from outpaint_mcp.providers.answer_reader import AnswerReader
from outpaint_mcp.providers.answers import check_webhook_time, header
from outpaint_mcp.providers.calls import ID, MAX_ANSWER_BYTES, ApiCall, Endpoint, UploadFile, data_uri
from outpaint_mcp.providers.declarations import Operation
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.request_checks import check_file_size, check_image_url, check_texts, check_webhook_url

REMEMBERED_UPLOADS = 1000
_HEADER_VALUE = re.compile(r"[!-~]+")

T = TypeVar("T")


class HttpProvider(AnswerReader):
    """A vendor over HTTP that is polled.

    A vendor's file declares what it can do and reads its answers (`parse_fetch`; `parse_submit` and `parse_upload`
    where these differ or exist). It overrides a `build_*` only where the declarations cannot express the request.

    Args:
        client: the HTTP client of the program.
        key: the vendor's API key.
        base_url: in place of the vendor's own.
    """

    base_url: ClassVar[str]
    key_env: ClassVar[str]
    """The environment variable that holds the API key: the vendor's own customary name."""
    auth_header: ClassVar[tuple[str, str]] = ("Authorization", "Bearer {key}")
    """The header that carries the key, and its value."""
    fetch_path: ClassVar[str] = ""
    """Where a task is polled, with ``{id}`` for its id."""
    fetch_field: ClassVar[str] = ""
    """The field that names the task where polls are POSTed."""
    other_fetch_path: ClassVar[str] = ""
    """Where a task is polled that the vendor does not know at the first place."""
    id_pattern: ClassVar[str] = r"(?!\.{1,2}$)[!-~]{1,200}"
    """What a task's id at the vendor looks like, as a regular expression; no other is polled."""
    callback_pattern: ClassVar[str] = r"[0-9a-f]{64}"
    webhook_signed_with: ClassVar[Literal["key", "token", "account"]] = "key"
    """The secret that `read_webhook` is handed: the API key, the order's own `webhook_secret`, or the account's."""
    webhook_secret_path: ClassVar[str] = ""
    """Where the account's secret is read, once, if webhooks are signed with that."""
    webhook_time_header: ClassVar[str] = ""
    """The header that says when a webhook was sent, in Unix seconds; its signature must cover that."""
    account_path: ClassVar[str] = ""
    """Where the account is read at no cost (`parse_account`), which shows whether the key is valid."""
    result_path: ClassVar[str] = ""
    """Where the result is read once a poll says that there is one (`has_result`), with ``{id}`` for the task's id."""
    idempotency_header: ClassVar[str] = ""
    """The header that carries an order's idempotency key, where the vendor keeps one (`idempotent`)."""
    order_seconds: ClassVar[float | None] = None
    """The timeout of an order, if not the HTTP client's own; for as long the vendor may be silent."""
    max_answer_bytes: ClassVar[int] = MAX_ANSWER_BYTES
    """The largest answer that is read."""

    def __init__(self, client: HttpClient, *, key: str | None = None, base_url: str | None = None) -> None:
        self._client = client
        self._key = key
        self._base_url = (base_url or self.base_url).rstrip("/")
        # By the order's key: an order that is sent again must name the same upload.
        self._uploaded: dict[str, str] = {}
        self._account_secret: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self._key else (self.key_env,)

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        """As for every provider; further refuses what cannot be sent over HTTP.

        Raises:
            UnsupportedFeatureError: a feature is missing, a value lies outside its limits, or the vendor cannot fetch
                the image.
            InvalidRequestError: an argument is missing, `provider_options` holds a key that an argument stands for, a
                text holds a control character, or a webhook's URL is none.
        """
        super().check(request, kind)
        if request.image is not None:
            self._check_url(request.image)
        if request.webhook is not None:
            if not request.webhook.url:
                raise InvalidRequestError(
                    "webhook_secret and webhook_events go with webhook_url.", "Give webhook_url too, or leave them out."
                )
            self.check_webhook_url(request.webhook.url)
        check_texts(request)

    def check_image(self, image: InputImage, frame: Frame, operation: Operation | None = None) -> None:
        """As for every provider; further refuses an image without a public URL where the vendor takes nothing else,
        and a file that is too large.

        Raises:
            UnsupportedFeatureError: the image or its place on the canvas lies outside the vendor's limits.
        """
        self._check_url(image.url or "")
        operation = operation or self.operations[SourceKind.IMAGE]
        if operation.sent_frame(frame).width >= frame.width:
            # The copy of one that is scaled down is smaller; it is measured before it is sent.
            check_file_size(self.title, image, operation.max_bytes)
        super().check_image(image, frame, operation)

    def _check_url(self, url: str) -> None:
        operation = self.operations.get(SourceKind.IMAGE)
        if operation is not None and operation.max_url is not None:
            check_image_url(self.title, url, operation.max_url)

    def check_webhook_url(self, url: str) -> None:
        """Refuse a URL that this vendor cannot call.

        Raises:
            InvalidRequestError: it is no http(s) URL, or none that the vendor takes.
        """
        check_webhook_url(url)

    def takes_callback(self, url: str, kind: SourceKind) -> bool:
        try:
            self.check_webhook_url(url)
        except InvalidRequestError:
            return False
        return Feature.WEBHOOK_URL in self.limits(kind)

    async def called_back(self, headers: Mapping[str, str], body: bytes, token: str = "") -> str:
        if self.webhook_time_header:
            check_webhook_time(self.title, header(headers, self.webhook_time_header), self._client.now())
        match self.webhook_signed_with:
            case "token":
                return self.read_webhook(headers, body, token)
            case "account":
                if self._account_secret is None:
                    answer = await self._client.read(self._endpoint(), ApiCall("GET", self.webhook_secret_path))
                    self._account_secret = self.parse_webhook_secret(answer)
                return self.read_webhook(headers, body, self._account_secret)
        return self.read_webhook(headers, body, self._key)

    def callback_token(self, task_id: str) -> str:
        # Derived from the key, which only this server and the vendor know: it need not be stored, and an order that is
        # sent again after a restart is the same request.
        if self._key is None:
            return ""
        return hmac.new(self._key.encode(), f"callback/{self.name}/{task_id}".encode(), hashlib.sha256).hexdigest()

    async def start(self, order: Order) -> TaskUpdate:
        endpoint = self._endpoint(order)
        call = await self._call_for(endpoint, order)

        def parse(body: Any) -> TaskUpdate:
            update = self.parse_submit(body)
            if not update.remote_id:
                raise self.unexpected("it names no task")
            if ID.fullmatch(update.remote_id) is None:
                raise self.unexpected("what it names the task is no id")
            return update

        return endpoint.tidied(await self._placed(endpoint, call, order, parse))

    async def _placed(self, endpoint: Endpoint, call: ApiCall, order: Order, parse: Callable[[Any], T]) -> T:
        """Send an order, once; returns what `parse` makes of the answer. Raises as `start` does."""
        try:
            return await self._client.order(endpoint, call, parse, idempotent=self.idempotent)
        except UnknownTaskError as error:
            if isinstance(order.source, Parent):
                raise
            # No task is named: it is the operation that the vendor does not know (any more).
            advice = "Have the operator check this provider's base URL, or use another provider."
            raise UnexpectedResponseError(error.message, advice, provider_code=error.provider_code) from error

    async def _call_for(self, endpoint: Endpoint, order: Order) -> ApiCall:
        """The request for an order, its input image uploaded before where the vendor wants that."""
        if order.step is StepName.UPSCALE:
            return self.build_upscale(order)
        source, operation = order.source, self.operation_of(order)
        if not isinstance(source, InputImage) or (operation.max_url is not None and not self.uploads):
            return self.build_submit(order)
        if operation.takes_url and source.url is not None:
            return self.build_submit(order)
        if self.uploads:
            return self.build_submit(
                order, self._uploaded.get(order.key) or await self._upload(endpoint, order.key, source)
            )
        data = await anyio.Path(source.path).read_bytes()
        if not operation.multipart:
            # Encoding megabytes holds the event loop for too long.
            return self.build_submit(order, await anyio.to_thread.run_sync(data_uri, source.mime_type, data))
        files = [UploadFile.of(operation.source.wire, source.mime_type, data)]
        if operation.mask:
            files.append(UploadFile.of(operation.mask, "image/png", await anyio.Path(source.mask).read_bytes()))
        return replace(self.build_submit(order), files=tuple(files))

    async def _upload(self, endpoint: Endpoint, key: str, image: InputImage) -> str:
        # An upload costs nothing and orders nothing: it is retried like a read.
        upload = self.build_upload(image, await anyio.Path(image.path).read_bytes())
        url = self._uploaded[key] = self.parse_upload(await self._client.read(endpoint, upload))
        if len(self._uploaded) > REMEMBERED_UPLOADS:
            del self._uploaded[next(iter(self._uploaded))]
        return url

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        endpoint = self._endpoint()
        call = self.build_fetch(remote_id, reference)
        try:
            body = await self._client.read(endpoint, call)
        except UnknownTaskError:
            if not self.other_fetch_path:
                raise
            other = replace(call, path=self.other_fetch_path.format(id=self.path_segment(remote_id)))
            body = await self._client.read(endpoint, other)
        if self.result_path and self.has_result(body):
            return endpoint.tidied(replace(await self._result(endpoint, remote_id, reference), remote_id=remote_id))
        return endpoint.tidied(replace(self.parse_fetch(body), remote_id=remote_id))

    async def _result(self, endpoint: Endpoint, remote_id: str, reference: str | None) -> TaskUpdate:
        """The end of a task that is done, whose result is read apart from its state."""
        try:
            body = await self._client.read(endpoint, self.build_result(remote_id, reference))
        except (ContentRejectedError, InvalidRequestError, InvalidImageError) as error:
            failure = Failure(
                code=error.code, message=error.message, provider_code=error.provider_code, retryable=error.retryable
            )
            return TaskUpdate(Status.FAILED, remote_id, failure=failure)
        return self.parse_result(body)

    async def account(self) -> Balance | None:
        """Ask the vendor for the account; the balance, where it tells one. Needs an `account_path`.

        Raises:
            AuthenticationError: the key is refused.
            OutpaintError: the vendor cannot be asked, or its answer not understood.
        """
        return self.parse_account(await self._client.read(self._endpoint(), ApiCall("GET", self.account_path)))

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        """The request that orders the outpaint: the client's options, and over them what `operations` declare.

        Args:
            order: resolved, and known to be possible.
            image_url: what `parse_upload` returned, if the input image was uploaded; a ``data:`` URI with its bytes.
        """
        operation, own = self.operation_of(order), self.own_options()
        options = {key: value for key, value in order.options.items() if key not in own}
        call = self._post(operation, operation.with_options(operation.body(order, image_url), options), order.key)
        return replace(call, path=operation.url_path(order))

    def build_upscale(self, order: Order) -> ApiCall:
        """The request that upscales one image of a grid (`upscale`).

        It goes without the client's options and webhook: both are for the outpaint.

        Raises:
            TypeError: the source is no task's image, or no upscale is declared.
        """
        if self.upscale is None or not isinstance(order.source, Parent):
            raise TypeError(f"{self.name} upscales no {order.source.kind.value}")
        return self._post(self.upscale, self.upscale.body(replace(order, webhook=None)), order.key)

    def _post(self, operation: Operation, body: Mapping[str, Any], key: str) -> ApiCall:
        headers = {self.idempotency_header: key} if self.idempotency_header else {}
        if operation.multipart:
            given = {name: value for name, value in body.items() if value is not None}
            form = {name: _form_text(value) for name, value in given.items() if name != operation.source.wire}
            return ApiCall("POST", operation.path, form=form, headers=headers)
        return ApiCall("POST", operation.path, json=body, headers=headers)

    def parse_submit(self, body: Any) -> TaskUpdate:
        """Read the answer to an order: by default like the answer to a poll.

        Raises:
            UnexpectedResponseError: it names no task.
        """
        return self.parse_fetch(body)

    def build_fetch(self, remote_id: str, reference: str | None = None) -> ApiCall:
        """The request that polls a task; `reference` as of `poll`.

        Raises:
            UnknownTaskError: `remote_id` cannot be an id of this vendor.
        """
        path = self.fetch_path.format(id=self.path_segment(remote_id))
        return ApiCall("POST", path, json={self.fetch_field: remote_id}) if self.fetch_field else ApiCall("GET", path)

    def has_result(self, body: Any) -> bool:
        """Whether the answer to a poll says that the result can be read (`result_path`)."""
        return False

    def build_result(self, remote_id: str, reference: str | None) -> ApiCall:
        """The request that reads the result of a task."""
        return ApiCall("GET", self.result_path.format(id=self.path_segment(remote_id)))

    def parse_result(self, body: Any) -> TaskUpdate:
        """Read the answer to that.

        Raises:
            UnexpectedResponseError: it cannot be understood.
        """
        raise NotImplementedError(f"{self.name} has no result apart from a task's state")

    def parse_webhook_secret(self, body: Any) -> str:
        """The account's secret in the answer from `webhook_secret_path`.

        Raises:
            UnexpectedResponseError: it cannot be understood.
        """
        raise NotImplementedError(f"{self.name} signs with no secret of the account's")

    def path_segment(self, remote_id: str) -> str:
        """A task's id as one segment of a URL's path.

        Raises:
            UnknownTaskError: this vendor can have no task of this id.
        """
        if re.fullmatch(self.id_pattern, remote_id) is None:
            raise UnknownTaskError(f"{self.title} can have no task of this id.")
        return quote(remote_id, safe="")

    @abstractmethod
    def parse_fetch(self, body: Any) -> TaskUpdate:
        """Read the answer to a poll.

        Raises:
            UnexpectedResponseError: it cannot be understood.
        """

    def build_upload(self, image: InputImage, data: bytes) -> ApiCall:
        """The request that hands your own image over before the order, where the vendor has one (`uploads`)."""
        raise NotImplementedError(f"{self.name} has no upload")

    def parse_upload(self, body: Any) -> str:
        """The uploaded image's URL."""
        raise NotImplementedError(f"{self.name} has no upload")

    def _auth(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """The headers that identify us, and what in them is secret.

        Raises:
            ConfigurationError: there is no key, or none that can be sent.
        """
        if not self._key:
            raise ConfigurationError(
                f"{self.title} needs the environment variable {self.key_env}.",
                "Have the operator set it, or use another provider (list_providers shows who is ready).",
            )
        if _HEADER_VALUE.fullmatch(self._key) is None:
            raise ConfigurationError(
                f"{self.key_env} holds characters that cannot be part of a key.",
                "Have the operator set it to the key alone, without spaces, quotes or line ends.",
            )
        return {self.auth_header[0]: self.auth_header[1].format(key=self._key)}, (self._key,)

    def _endpoint(self, order: Order | None = None) -> Endpoint:
        headers, secrets = self._auth()
        return Endpoint(
            self.title,
            self._base_url,
            headers,
            self.read_error,
            secrets=(*secrets, *(order.secrets if order else ())),
            name=self.name,
            order_seconds=self.order_seconds,
            max_answer_bytes=self.max_answer_bytes,
            answers_with_images=self.synchronous,
            is_near=not self.leaves_owner,
        )


def _form_text(value: Any) -> str:
    """A value as the text of a form's field: numbers and booleans as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value)
