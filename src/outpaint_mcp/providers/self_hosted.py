"""An engine that the operator runs, configured by its address alone: what its file shares with others of the kind.

The canvas is drawn here, padded and with a first fill, and so is what comes of the answer: the vendor's file translates
between them. Nothing is paid, and on a loopback or private address nothing leaves the operator's own machines.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, get_args
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from outpaint_mcp.domain import values
from outpaint_mcp.domain.errors import ConfigurationError, InvalidRequestError, OutpaintError
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.order import Order, StepName
from outpaint_mcp.domain.provider_info import Original, ProviderInfo, SourceForm
from outpaint_mcp.domain.request import Feature, OutpaintRequest, ProviderArguments, SourceKind
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.images.addresses import is_address, is_private
from outpaint_mcp.images.fetch import Resolve, resolve
from outpaint_mcp.providers.base import KEEP_ORIGINAL
from outpaint_mcp.providers.canvas_limits import CanvasLimits
from outpaint_mcp.providers.canvases import Canvases
from outpaint_mcp.providers.declarations import Argument, Operation
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.local.plan import MAX_PIXELS
from outpaint_mcp.providers.local.workers import seed_of
from outpaint_mcp.providers.synchronous import KeepImage, SynchronousProvider

logger = logging.getLogger(__name__)

LOOKUP_SECONDS: Final = 2.0
LOOKUP_VALID_SECONDS: Final = 60.0
LOOK_VALID_SECONDS: Final = 30.0
_SEEDS: Final = 2**31
"""Seeds below this are taken everywhere."""
_AUTHORIZATION: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]* [!-~]+")


class EngineOptions(BaseModel):
    """Base of what `provider_options` may hold for one engine: each field with its range."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: Any) -> Any:
        """``"7"`` and 7.0 are 7."""
        fields = cls.model_fields.items()
        wholes = {name for name, field in fields if int in (field.annotation, *get_args(field.annotation))}
        return {name: values.whole(value) if name in wholes else value for name, value in given.items()}

    @classmethod
    def in_words(cls) -> str:
        """The fields with their ranges."""
        words = []
        for name, field in cls.model_json_schema()["properties"].items():
            kinds = [field, *field.get("anyOf", [])]
            low, high = ([one[bound] for one in kinds if bound in one] for bound in ("minimum", "maximum"))
            told = field.get("description") or (f"{low[0]} to {high[0]}" if low and high else "")
            words.append(f"{name} ({told})" if told else name)
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Inspection:
    """How an engine was found, in sentences; with `advice` it cannot draw as it is."""

    message: str
    advice: str = ""


class SelfHosted(HttpProvider):
    """An engine at `<NAME>_BASE_URL`.

    `key_env` names the variable of an `Authorization` header for what stands before the engine, such as ``Bearer abc``;
    most need none.

    Args:
        client: the HTTP client of the program.
        canvases: draws what the engine goes on with.
        resolver: looks host names up.
        clock: seconds that only rise.
        keep: checks and stores an image.
        more: as for `HttpProvider`, or `SynchronousProvider` where the engine is one.
    """

    options: ClassVar[type[EngineOptions]]
    """What `provider_options` may hold."""
    base_url = ""
    takes_workflow: ClassVar[bool] = False
    """Whether `<NAME>_WORKFLOW` can name a file of the operator's that says how it draws."""
    self_hosted = True
    costs_money = False
    refunds_failures = True
    original = Original.PASTED_BACK
    sources = (SourceForm.OWN_IMAGE,)
    price = "free: it is yours"
    usd: ClassVar = {StepName.OUTPAINT: 0.0}
    image_lifetime = "as long as this server keeps its images"

    def __init__(
        self,
        client: HttpClient,
        *,
        canvases: Canvases,
        resolver: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
        **more: Any,
    ) -> None:
        super().__init__(client, **more)
        self._canvases = canvases
        self._resolver = resolver
        self._clock = clock
        self._near = _is_near_by_name(self._host)
        self._looked_up: float | None = None
        self._seen_at: float | None = None
        self._seen = ""

    @staticmethod
    def operation_with(options: type[EngineOptions], *, prompt: str = "any") -> Operation:
        """The operation of an engine that paints a mask: any frame."""
        return Operation(
            arguments={
                Feature.ASPECT_RATIO: Argument("any"),
                Feature.SIDES: Argument("any"),
                Feature.PROMPT: Argument(prompt),
                Feature.PROVIDER_OPTIONS: Argument(options.in_words()),
            },
            # Of the new image, which is made here; what the engine is sent is smaller.
            canvas=CanvasLimits(max_pixels=MAX_PIXELS),
        )

    @classmethod
    def base_url_env(cls) -> str:
        """The environment variable of its address."""
        return f"{cls.name.upper()}_BASE_URL"

    @classmethod
    def workflow_env(cls) -> str:
        """The environment variable of its workflow, where it takes one."""
        return f"{cls.name.upper()}_WORKFLOW"

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self._base_url else (self.base_url_env(),)

    @property
    def leaves_owner(self) -> bool:
        return not self._near

    @property
    def _host(self) -> str:
        return urlsplit(self._base_url).hostname or ""

    async def locate(self) -> None:
        """Look the host's name up, unless that was done a moment ago: it is near if all of its addresses are."""
        host, now = self._host, self._clock()
        if not host or is_address(host) or _is_near_by_name(host):
            return
        if self._looked_up is not None and now < self._looked_up + LOOKUP_VALID_SECONDS:
            return
        found: list[str] = []
        with anyio.move_on_after(LOOKUP_SECONDS):
            try:
                found = [*await self._resolver(host, urlsplit(self._base_url).port or 80)]
                self._looked_up = now
            except OSError:
                # The engine may not be up yet: its name is looked up again next time.
                self._looked_up = None
        self._near = bool(found) and all(map(is_private, found))

    async def inspected(self) -> Inspection | None:
        """What the engine is and has, asked now; None for one that is not asked.

        Raises:
            OutpaintError: it does not answer as it should.
        """
        return None

    async def look(self) -> None:
        if not self._base_url or (self._seen_at is not None and self._clock() < self._seen_at + LOOK_VALID_SECONDS):
            return
        await self.locate()
        if self.leaves_owner:
            return
        self._seen_at = self._clock()
        self._seen = "It has not answered in time."
        try:
            found = await self.inspected()
            self._seen = "" if found is None else " ".join(filter(None, (found.message, found.advice)))
        except OutpaintError as error:
            self._seen = error.message
        except Exception:
            logger.exception("looking at %s failed", self.name)
            self._seen = ""

    def info(self) -> ProviderInfo:
        found = super().info()
        return found.model_copy(update={"note": f"{found.note} {self._seen}".strip()})

    def _auth(self) -> tuple[dict[str, str], tuple[str, ...]]:
        if not self._base_url:
            raise ConfigurationError(
                f"{self.title} needs the environment variable {self.base_url_env()}.",
                "Have the operator set it to the engine's address, or use another provider.",
            )
        password = urlsplit(self._base_url).password
        secrets = (password,) if password else ()
        if not self._key:
            return {}, secrets
        if _AUTHORIZATION.fullmatch(self._key) is None:
            raise ConfigurationError(
                f"{self.key_env} is no Authorization header.",
                "Have the operator set it to a scheme and what belongs to it, such as “Bearer abc”, on one line.",
            )
        return {"Authorization": self._key}, (*secrets, self._key, self._key.partition(" ")[2])

    def check(self, request: OutpaintRequest, kind: SourceKind) -> None:
        super().check(request, kind)
        self.read_options(request.provider_options)

    def normalised_options(self, options: Mapping[str, Any], arguments: ProviderArguments) -> dict[str, Any]:
        kept = {name: options[name] for name in (KEEP_ORIGINAL,) if name in options}
        read: EngineOptions = self.read_options(options)
        return kept | read.model_dump(exclude_unset=True, exclude_none=True)

    def read_options(self, options: Mapping[str, Any]) -> Any:
        """`provider_options` as an instance of `options`.

        Raises:
            InvalidRequestError: one is unknown or outside its range.
        """
        try:
            return self.options.model_validate({name: one for name, one in options.items() if name != KEEP_ORIGINAL})
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            raise InvalidRequestError(
                f"provider_options.{'.'.join(map(str, problem['loc']))} does not fit {self.title}.",
                f"It takes {self.options.in_words()}.",
            ) from None

    @staticmethod
    def seed_for(order: Order, asked: int | None) -> int:
        """The seed that was asked for, or else one of the task's own: ordered again, it is another."""
        return seed_of(order.key.encode()) % _SEEDS if asked is None else asked

    @staticmethod
    def size_notes(working: WorkingCanvas, frame: Frame) -> tuple[str, ...]:
        """What the client should know of the size in which an order is drawn."""
        if (working.width, working.height) == (frame.canvas_width, frame.canvas_height):
            return ()
        return (
            f"The new area is drawn at {working.width}x{working.height} pixels and scaled to "
            f"{frame.canvas_width}x{frame.canvas_height}; your image keeps its own pixels.",
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """What vendors are built with: who is answered with images stores them, and engines have canvases drawn."""

    client: HttpClient
    keep: KeepImage
    canvases: Canvases


def build_vendor(
    one: type[HttpProvider],
    tools: Tools,
    *,
    key: str | None = None,
    base_url: str | None = None,
    workflow: Path | None = None,
) -> HttpProvider:
    """The provider of this class."""
    more: dict[str, Any] = {"canvases": tools.canvases} if issubclass(one, SelfHosted) else {}
    more |= {"keep": tools.keep} if issubclass(one, SelfHosted | SynchronousProvider) else {}
    more |= {"workflow": workflow} if issubclass(one, SelfHosted) and one.takes_workflow else {}
    return one(tools.client, key=key, base_url=base_url, **more)


def _is_near_by_name(host: str) -> bool:
    """Whether a host is known to be near without looking its name up (RFC 6761)."""
    # As a destination, the unspecified address is this machine.
    return is_private(host) or host in ("localhost", "0.0.0.0", "::") or host.endswith(".localhost")  # noqa: S104
