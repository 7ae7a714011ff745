"""What the five vendors' protocols have in common on the server's side: a key, strict bodies, tasks that move on.

A vendor's file says the rest: its routes, its shapes, its words. Written from the vendors' documentation and sharing
nothing with the adapters, so that each can find the other's mistakes.
"""

import hmac
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outpaint_mcp.domain.errors import InvalidImageError
from outpaint_mcp.sandbox.pictures import Extended, Measured, Picture, Scene, Shelf
from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.tasks import Account, Failure, Job, Kind, OrderLog, TaskBook, Webhook
from outpaint_mcp.sandbox.webhooks import Push, Webhooks, is_loopback

Action = str
"""What a request is for: submit, upscale, imagine, upload, poll, image, cancel or balance."""

FAILURE_IN_SCOPE = "outpaint_mcp.sandbox.failure"
MAX_PICTURE_BYTES = 25_000_000
FETCH_SECONDS = 10.0
GRID_SEEDS = (0, 1, 2, 3)


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _http_url(value: str) -> str:
    if not is_http_url(value):
        raise ValueError("must be an http or https URL")
    return value


def _uuid(value: str) -> str:
    if str(uuid.UUID(value)) != value.lower():
        raise ValueError("must be a UUID")
    return value


Text = Annotated[str, Field(min_length=1, max_length=8192)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Uuid = Annotated[str, AfterValidator(_uuid)]


class Body(BaseModel):
    """A request body: unknown fields and wrong types are refused, `1` is no string and `true` no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class RefusedError(Exception):
    """The vendor refuses a request; the vendor's `refuse` gives it its shape."""

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


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose key was right. `origin` is the sandbox's own address as the client wrote it."""

    request: Request
    raw: bytes
    origin: str
    failure: Failure | None

    @property
    def path(self) -> str:
        return str(self.request.url.path)


@dataclass(frozen=True, slots=True)
class Words:
    """A vendor's names for states: the unfinished ones in order, then how a task ends."""

    running: tuple[str, ...]
    succeeded: str
    failed: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        return frozenset((*self.running, self.succeeded, self.failed, *self.others))


@dataclass(frozen=True, slots=True)
class Desk:
    """What the vendors of one sandbox share."""

    settings: SandboxSettings
    shelf: Shelf
    webhooks: Webhooks
    orders: OrderLog
    client: Callable[[], httpx2.AsyncClient]

    def now(self) -> float:
        return self.settings.clock()


_B = TypeVar("_B", bound=Body)
Handler = Callable[[Call], Awaitable[Response]]


class Vendor(ABC):
    """One vendor's protocol."""

    name: ClassVar[str]
    key: ClassVar[str]
    key_header: ClassVar[str]
    key_prefix: ClassVar[str] = ""
    words: ClassVar[Words]
    image_seconds: ClassVar[float | None] = None
    """How long image URLs work; None where the vendor does not say."""
    push_attempts: ClassVar[int] = 1

    def __init__(self, desk: Desk, seeds: Sequence[Seed]) -> None:
        self.desk = desk
        self.tasks = TaskBook(desk.settings.max_tasks, desk.orders)
        self.account = Account(desk.settings.balance)
        for number, seed in enumerate(seeds):
            self.tasks.seed(self._seeded(seed, number))

    @abstractmethod
    def routes(self) -> list[Route]:
        """The endpoints, below the vendor's base URL."""

    @abstractmethod
    def classify(self, method: str, path: str, body: Any) -> Action | None:
        """What a request is for; None where it is nothing that can be told."""

    @abstractmethod
    def refuse(self, refused: RefusedError) -> Response:
        """A refusal in this vendor's shape."""

    @abstractmethod
    def show(self, job: Job, at: float, origin: str) -> dict[str, Any]:
        """What the vendor's poll answers of `job` at Unix time `at`."""

    def push(self, job: Job, hook: Webhook, event: str, at: float) -> Push:
        """The push of `event`; the polled task itself where the vendor's page says no more."""
        return Push({"content-type": "application/json"}, json.dumps(self.show(job, at, job.origin)).encode())

    def refuse_in_200(self, message: str) -> Response | None:
        """A refusal under HTTP 200, for the vendors that are known to do so."""
        return None

    def refuse_job_shaped(self, status: int, message: str) -> Response | None:
        """A refusal that looks like a task, for the vendors that are known to do so."""
        return None

    def as_bare_string(self, body: Any) -> Any:
        """`body` with a single URL wherever a list of URLs was."""
        return _bare(body)

    # Requests

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A Starlette endpoint that checks the key before `handler` sees the request."""

        async def answer(request: Request) -> Response:
            try:
                if not self.is_authorized(request.headers.get(self.key_header)):
                    raise RefusedError(401, "Invalid or missing API key")
                failure = request.scope.get(FAILURE_IN_SCOPE)
                return await handler(Call(request, await request.body(), origin_of(request), failure))
            except RefusedError as refused:
                return self.refuse(refused)

        return answer

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self.refuse(RefusedError(status, "No such endpoint, or not with this method"))

    def is_authorized(self, header: str | None) -> bool:
        expected = f"{self.key_prefix}{self.key}".encode()
        return header is not None and hmac.compare_digest(header.encode(), expected)

    def parse(self, model: type[_B], call: Call) -> _B:
        """The body as `model`.

        Raises:
            RefusedError: it is no JSON, or not what the vendor's page allows.
        """
        content_type = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise self.malformed([Problem("", "invalid", "the body must be sent as application/json")])
        try:
            data = json.loads(call.raw, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise self.malformed([Problem("", "invalid", "the body is no JSON")]) from None
        return self.check(model, data)

    def check(self, model: type[_B], data: Any) -> _B:
        """`data` as `model`.

        Raises:
            RefusedError: it does not fit.
        """
        try:
            return model.model_validate(data)
        except ValidationError as error:
            kinds = {"missing": "missing", "extra_forbidden": "unknown"}
            raise self.malformed(
                [
                    Problem(".".join(map(str, found["loc"])), kinds.get(found["type"], "invalid"), found["msg"])
                    for found in error.errors(include_url=False, include_context=False)
                ]
            ) from None

    def malformed(self, problems: Sequence[Problem]) -> RefusedError:
        """The refusal of a body with `problems`, of which there is at least one."""
        return RefusedError(400, "; ".join(map(str, problems)), problems=problems)

    # Orders

    def order(
        self,
        call: Call,
        kind: Kind,
        job_id: str,
        pictures: Sequence[Picture],
        body: BaseModel,
        *,
        model: str = "",
        charge: float = 0.0,
        webhook: Webhook | None = None,
        remote_id: str = "",
        instant: bool = False,
    ) -> Job:
        """Takes an order: from here on it counts and costs.

        Raises:
            RefusedError: the account cannot pay `charge`.
        """
        now = self.desk.now()
        available = self.account.available(now)
        if charge > available:
            raise self.cannot_pay(charge, available)
        job = Job(
            vendor=self.name,
            id=job_id,
            kind=kind,
            body=body.model_dump(mode="json", exclude_unset=True),
            created_at=now,
            marks=() if instant else self._marks(now),
            pictures=tuple(pictures),
            model=model,
            charge=charge,
            origin=call.origin,
            failure=call.failure,
            webhook=webhook,
            remote_id=remote_id,
        )
        self.account.charge(charge)
        if job.failure is not None:
            self.account.refund(charge, job.finished_at)
        self.tasks.add(job, call.path)
        if webhook is not None:
            for at, event in self.events(job, webhook):
                self.desk.webhooks.schedule(at, self, job, webhook, event)
        return job

    def cannot_pay(self, charge: float, available: float) -> RefusedError:
        return RefusedError(402, f"Insufficient balance: {charge:g} needed, {available:g} left")

    def events(self, job: Job, hook: Webhook) -> list[tuple[float, str]]:
        """When this task pushes what: by default once, at its end."""
        return [(job.finished_at, "failed" if job.failure else "completed")]

    def start_time(self, now: float) -> float:
        """When a task ordered now leaves the queue; later than `now` where a vendor limits what runs at a time."""
        return now

    def _marks(self, now: float) -> tuple[float, ...]:
        step = self.desk.settings.seconds_per_state
        late = self.start_time(now) - now
        steps = range(1, len(self.words.running) + 1)
        # A queue keeps a task out of its last unfinished state, the one in which it is worked on.
        last_but_one = len(self.words.running) - 1
        return tuple(now + number * step + (late if number >= last_but_one else 0.0) for number in steps)

    def _seeded(self, seed: Seed, number: int) -> Job:
        now = self.desk.now()
        scenes = [Scene.of(variant) for variant in GRID_SEEDS]
        return Job(
            vendor=self.name,
            id=seed.id,
            kind="imagine" if seed.is_grid else "upscale",
            body={},
            created_at=now,
            marks=(),
            pictures=tuple(scenes) if seed.is_grid else (scenes[0],),
            model=seed.model,
            remote_id=seed.remote_id,
            seeded=True,
            foreign=seed.foreign,
        )

    # Answers

    def word(self, job: Job, at: float) -> str:
        stage = job.stage(at)
        if not stage.final:
            return self.words.running[stage.step]
        return self.words.succeeded if stage.succeeded else self.words.failed

    def image_url(self, job: Job, origin: str, number: int) -> str:
        return f"{origin}/images/{self.name}/{job.id}/{number}.png"

    def image_urls(self, job: Job, origin: str) -> list[str]:
        return [self.image_url(job, origin, number) for number in range(len(job.pictures))]

    def grid_url(self, job: Job, origin: str) -> str:
        return f"{origin}/images/{self.name}/{job.id}/grid.png"

    def is_expired(self, job: Job, at: float) -> bool:
        """Whether the image URLs have run out. Seeded tasks stay."""
        return self.image_seconds is not None and not job.seeded and at > job.finished_at + self.image_seconds

    def shows_images(self, job: Job, at: float) -> bool:
        """Whether the image URLs answer yet."""
        return job.stage(at).succeeded

    # Pictures of one's own

    async def fetch_picture(self, url: str) -> Measured:
        """The picture at `url`, which must be on this machine.

        A vendor would fetch it after accepting; whether a bad URL is refused or fails later is not documented. Here it
        is refused: an order that costs nothing is the safer reading.

        Raises:
            RefusedError: there is no picture that can be read.
        """
        if not is_loopback(url):
            raise RefusedError(400, "The sandbox reads pictures from loopback addresses only")
        try:
            async with self.desk.client() as client, client.stream("GET", url, timeout=FETCH_SECONDS) as answer:
                if not answer.is_success:
                    raise RefusedError(400, f"The picture's URL answered HTTP {answer.status_code}")
                data = bytearray()
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_PICTURE_BYTES:
                        raise RefusedError(400, "The picture is larger than 25 MB")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RefusedError(400, f"The picture's URL cannot be read ({type(error).__name__})") from None
        return await self.store_picture(bytes(data))

    async def store_picture(self, data: bytes) -> Measured:
        """Keeps an uploaded picture.

        Raises:
            RefusedError: it is no picture.
        """
        try:
            return await self.desk.shelf.store(data)
        except InvalidImageError as error:
            raise RefusedError(400, error.message) from None


def origin_of(request: Request) -> str:
    """`http://host:port` as the client wrote it, so that image URLs lead back the same way."""
    host = request.headers.get("host") or request.url.netloc
    return f"{request.url.scheme}://{host}"


def four_outpaints(parent: Picture, zoom: float, ratio: tuple[int, int] | None = None) -> list[Picture]:
    return [Extended.of(parent, zoom, ratio, seed) for seed in GRID_SEEDS]


def iso(at: float | None) -> str:
    """RFC 3339 in UTC; Go's zero time, as these vendors send, for None."""
    if at is None:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(inner, str) and is_http_url(inner) for inner in value):
            return value[0]
        return [_bare(inner) for inner in value]
    return value


def answer_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status_code=status, headers=headers)
