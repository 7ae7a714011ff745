"""The base class of the vendors' protocols: a key, strict bodies, and tasks that change state as time passes.

A vendor's file adds its endpoints, its JSON and its names for states. Written from the vendors' documentation and
sharing nothing with the adapters, so that each can find the other's mistakes.
"""

import hmac
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from outpaint_mcp.sandbox.image_specs import GRID_SEEDS, ImageSpec, Scene, Upload
from outpaint_mcp.sandbox.seeds import Seed
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.tasks import Account, Failure, Kind, OrderLog, Task, TaskTable, Webhook
from outpaint_mcp.sandbox.vendors.answers import answer_json, origin_of, with_bare_urls
from outpaint_mcp.sandbox.vendors.bodies import (
    Body,
    MalformedBodyError,
    Problem,
    RejectedError,
    parse_body,
)
from outpaint_mcp.sandbox.vendors.input_images import InputImages
from outpaint_mcp.sandbox.webhooks import ScheduledWebhook, WebhookRequest, Webhooks

Action = Literal["submit", "upscale", "imagine", "upload", "poll", "image", "cancel", "balance", "about"]
"""What a request is for; ``about`` asks an engine what it is and has."""

_LONGEST_KEPT = 8192
FAILURE_IN_SCOPE = "outpaint_mcp.sandbox.failure"
"""The key in a request's ASGI scope of the `Failure` with which the task that it orders is to end."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with the right key. `origin` is the sandbox's own address as the client wrote it."""

    request: Request
    raw: bytes
    origin: str
    failure: Failure | None

    @property
    def path(self) -> str:
        return str(self.request.url.path)

    @property
    def task_id(self) -> str:
        """The `id` in the path."""
        return str(self.request.path_params["id"])


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint below a vendor's base URL. `action` is what its requests are for, or tells that by their JSON."""

    method: str
    path: str
    handler: Handler
    action: Action | Callable[[Any], Action]


@dataclass(frozen=True, slots=True)
class Statuses:
    """A vendor's names for the states of a task: the unfinished ones in order, then the two it can end in.

    `others` are further names in its documentation, which the fault that garbles a status must know too.
    """

    running: tuple[str, ...]
    succeeded: str
    failed: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> frozenset[str]:
        return frozenset((*self.running, self.succeeded, self.failed, *self.others))


@dataclass(frozen=True, slots=True)
class SandboxContext:
    """What the vendors of one sandbox share."""

    settings: SandboxSettings
    input_images: InputImages
    webhooks: Webhooks
    orders: OrderLog

    def now(self) -> float:
        return self.settings.clock()


_B = TypeVar("_B", bound=Body)


class Vendor(ABC):
    """One vendor's protocol."""

    name: ClassVar[str]
    key: ClassVar[str] = ""
    """Empty for an engine that asks for none."""
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = ""
    statuses: ClassVar[Statuses]
    seeds: ClassVar[tuple[Seed, ...]] = ()
    key_env: ClassVar[str] = ""
    """The variable that holds the key; `<NAME>_API_KEY` unless it is given."""
    image_seconds: ClassVar[float | None] = None
    """How long image URLs work; None where the vendor does not say."""
    webhook_attempts: ClassVar[int] = 1
    unknown_task: ClassVar[str] = "task not found"
    """The message of a rejection whose task the vendor does not know."""

    def __init__(self, context: SandboxContext) -> None:
        self.context = context
        self.tasks = TaskTable(context.settings.max_tasks, context.orders)
        self.account = Account(context.settings.balance)
        self._endpoints = [
            (operation, Route(operation.path, self.endpoint(operation.handler), methods=[operation.method]))
            for operation in self.operations()
        ]
        for seed in self.seeds:
            self.tasks.seed(self._seeded_task(seed))

    @classmethod
    def environment(cls, base_url: str) -> dict[str, str]:
        """The settings of outpaint-mcp that point this vendor's adapter at `base_url`."""
        name = cls.name.upper()
        keys = {cls.key_env or f"{name}_API_KEY": cls.key} if cls.key else {}
        return {f"{name}_BASE_URL": base_url, **keys}

    @abstractmethod
    def operations(self) -> list[Operation]:
        """The endpoints, below the vendor's base URL."""

    @abstractmethod
    def rejection(self, rejected: RejectedError) -> Response:
        """A rejection in this vendor's shape."""

    @abstractmethod
    def show(self, task: Task, at: float, origin: str) -> dict[str, Any]:
        """The JSON of `task` at Unix time `at`, as a poll answers it."""

    def webhook_request(self, task: Task, webhook: Webhook, event: str, at: float) -> WebhookRequest:
        """The webhook of `event`: the task as a poll answers it, unless the vendor documents something else."""
        body = json.dumps(self.show(task, at, task.origin)).encode()
        return WebhookRequest({"content-type": "application/json"}, body)

    def rejection_in_200(self, message: str) -> Response | None:
        """A rejection under HTTP 200; overridden for the vendors that are known to send one."""
        return None

    def task_shaped_rejection(self, status: int, message: str, code: int | str | None = None) -> Response | None:
        """A rejection that looks like a task; overridden for the vendors that are known to send one.

        Its code is the HTTP status unless it is given.
        """
        return None

    def as_bare_string(self, body: Any) -> Any:
        """The JSON `body` with a single URL wherever a list of URLs was."""
        return with_bare_urls(body)

    def restart(self) -> None:  # noqa: B027
        """Forgets what a restart makes a server forget; overridden for those that run on their users' machines."""

    def uploaded_image(self, upload_id: str) -> Upload | None:
        """The image uploaded to this vendor under `upload_id`; None where there is none."""
        return None

    # Requests

    def routes(self) -> list[BaseRoute]:
        """The operations as Starlette's routes."""
        return [route for _, route in self._endpoints]

    def classify(self, method: str, path: str, body: Any) -> Action | None:
        """What a request is for; None where `path` (below the base URL) is no endpoint. `body` is its JSON, if any.

        A request to an endpoint with a method that it does not have counts as one to that endpoint.
        """
        scope = {"type": "http", "method": method, "path": path}
        matches = [(route.matches(scope)[0], operation) for operation, route in self._endpoints]
        for wanted in (Match.FULL, Match.PARTIAL):
            for match, operation in matches:
                if match is wanted:
                    return operation.action(body) if callable(operation.action) else operation.action
        return None

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A Starlette endpoint that checks the key before `handler` sees the request, and gives rejections a shape."""

        async def answer(request: Request) -> Response:
            try:
                if not self.is_authorized(request.headers.get(self.key_header)):
                    raise RejectedError(401, "Invalid or missing API key")
                failure = request.scope.get(FAILURE_IN_SCOPE)
                return await handler(Call(request, await request.body(), origin_of(request), failure))
            except MalformedBodyError as error:
                return self.rejection(self.malformed(error.problems))
            except RejectedError as rejected:
                return self.rejection(rejected)

        return answer

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        """Starlette's exception handler for paths and methods that are none of the vendor's."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self.rejection(RejectedError(status, "No such endpoint, or not with this method"))

    def is_authorized(self, header: str | None) -> bool:
        """Whether `header`, the value of the key's header, holds the vendor's key, if it wants one."""
        if not self.key:
            return True
        expected = f"{self.key_prefix}{self.key}".encode()
        return header is not None and hmac.compare_digest(header.encode(), expected)

    def parse(self, model: type[_B], call: Call) -> _B:
        """The body as `model`.

        Raises:
            MalformedBodyError: it is no JSON, or not what the vendor's documentation allows.
        """
        return parse_body(model, call.request.headers.get("content-type", ""), call.raw)

    def malformed(self, problems: Sequence[Problem]) -> RejectedError:
        """The rejection of a body with `problems`, of which there is at least one."""
        return RejectedError(400, "; ".join(map(str, problems)), problems=problems)

    # Tasks

    def find(self, task_id: str, status: int = 404) -> Task:
        """The task with this id.

        Raises:
            RejectedError: there is none (HTTP `status`), or the client may not see it.
        """
        task = self.tasks.get(task_id)
        if task is None:
            raise RejectedError(status, self.unknown_task)
        return task

    def succeeded(self, task: Task, message: str, status: int = 400) -> Task:
        """`task`, which an order wants to build on.

        Raises:
            RejectedError: it has not succeeded, or not yet (HTTP `status`, `message`).
        """
        if not task.stage(self.context.now()).succeeded:
            raise RejectedError(status, message)
        return task

    def answer_task(self, task: Task, call: Call) -> Response:
        """The answer that shows `task` as it is now."""
        return answer_json(self.show(task, self.context.now(), call.origin))

    async def fetch(self, call: Call) -> Response:
        """Handles a poll of the task named in the path."""
        return self.answer_task(self.find(call.task_id), call)

    # Orders

    def order(
        self,
        call: Call,
        kind: Kind,
        task_id: str,
        images: Sequence[ImageSpec],
        body: Body,
        *,
        model: str = "",
        charge: float = 0.0,
        webhook: Webhook | None = None,
        remote_id: str = "",
        instant: bool = False,
    ) -> Task:
        """Accepts an order: from here on it counts and costs `charge`, in the vendor's unit.

        Raises:
            RejectedError: the account cannot pay `charge`.
        """
        now = self.context.now()
        available = self.account.available(now)
        if charge > available:
            raise self.insufficient_balance(charge, available)
        task = Task(
            vendor=self.name,
            id=task_id,
            kind=kind,
            body=_without_bytes(body.model_dump(mode="json", exclude_unset=True)),
            created_at=now,
            state_ends=() if instant else self._state_ends(now),
            images=tuple(images),
            model=model,
            charge=charge,
            origin=call.origin,
            failure=call.failure,
            webhook=webhook,
            remote_id=remote_id,
        )
        self.account.charge(charge)
        if task.failure is not None:
            self.account.refund(charge, task.finished_at)
        self.tasks.add(task, call.path)
        if webhook is not None:
            for at, event in self.webhook_events(task, webhook):
                build = partial(self.webhook_request, task, webhook, event, at)
                self.context.webhooks.schedule(ScheduledWebhook(at, task, webhook, event, build, self.webhook_attempts))
        return task

    def insufficient_balance(self, charge: float, available: float) -> RejectedError:
        """The rejection of an order that costs more than the account holds, both in the vendor's unit."""
        return RejectedError(402, f"Insufficient balance: {charge:g} needed, {available:g} left")

    def webhook_events(self, task: Task, webhook: Webhook) -> list[tuple[float, str]]:
        """The task's webhooks as (Unix time, event): by default one, at its end."""
        return [(task.finished_at, "failed" if task.failure else "completed")]

    def start_time(self, now: float) -> float:
        """When a task ordered now leaves the queue; later than `now` where a vendor limits what runs at a time."""
        return now

    def _state_ends(self, now: float) -> tuple[float, ...]:
        step = self.context.settings.seconds_per_state
        late = self.start_time(now) - now
        steps = range(1, len(self.statuses.running) + 1)
        # A queue keeps a task out of its last unfinished state, the one in which it is worked on.
        last_but_one = len(self.statuses.running) - 1
        return tuple(now + number * step + (late if number >= last_but_one else 0.0) for number in steps)

    def _seeded_task(self, seed: Seed) -> Task:
        scenes = [Scene.of(variant) for variant in GRID_SEEDS]
        return Task(
            vendor=self.name,
            id=seed.id,
            kind="imagine" if seed.is_grid else "upscale",
            body={},
            created_at=self.context.now(),
            state_ends=(),
            images=tuple(scenes) if seed.is_grid else (scenes[0],),
            model=seed.model,
            remote_id=seed.remote_id,
            seeded=True,
            foreign=seed.foreign,
        )

    # Answers

    async def image_bytes(self, task: Task) -> tuple[bytes, str]:
        """The bytes and the MIME type of a task's only image, for an answer that holds it."""
        return await self.context.input_images.bytes_of(task.images[0])

    def status_of(self, task: Task, at: float) -> str:
        """The vendor's name for the state of `task` at Unix time `at`."""
        stage = task.stage(at)
        if not stage.final:
            return self.statuses.running[stage.step]
        return self.statuses.succeeded if stage.succeeded else self.statuses.failed

    def image_urls(self, task: Task, origin: str) -> list[str]:
        """The URLs of the single images."""
        return [f"{origin}/images/{self.name}/{task.id}/{number}.png" for number in range(len(task.images))]

    def grid_url(self, task: Task, origin: str) -> str:
        """The URL of the four images in one, or of the single image."""
        return f"{origin}/images/{self.name}/{task.id}/grid.png"

    def is_expired(self, task: Task, at: float) -> bool:
        """Whether the image URLs have expired. Those of seeded tasks never do."""
        return self.image_seconds is not None and not task.seeded and at > task.finished_at + self.image_seconds

    def shows_images(self, task: Task, at: float) -> bool:
        """Whether the image URLs answer at Unix time `at`, expiry apart."""
        return task.stage(at).succeeded


def _without_bytes(body: Any) -> Any:
    """A body as it is kept: an image that it holds is told by its length."""
    if isinstance(body, dict):
        return {name: _without_bytes(value) for name, value in body.items()}
    if isinstance(body, str) and len(body) > _LONGEST_KEPT:
        return f"{body[:40]}… ({len(body)} characters)"
    return body
