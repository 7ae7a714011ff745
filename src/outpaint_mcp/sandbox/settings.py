"""The settings of a sandbox, passed in by whoever builds one: nothing here reads the environment."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx2

from outpaint_mcp.sandbox.painters import Painter


class ManualClock:
    """A clock (Unix time in seconds) that stands still until it is moved."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How a sandbox behaves; the defaults suit trying it by hand."""

    seconds_per_state: float = 0.6
    """How long a task stays in each of its vendor's unfinished states. 0 finishes every task at once."""

    clock: Callable[[], float] = time.time
    """Unix time in seconds. States are computed from it, so a clock moved by hand moves the tasks."""

    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    """How the fault `slow` waits, and an engine while it draws."""

    balance: float = 1_000_000.0
    """What each account holds at the start, in the vendor's own unit (points, credits, USD)."""

    legnext_concurrency: int | None = 6
    """Jobs that Legnext runs at a time, the others waiting as `staged`. None: no limit."""

    apiframe_wrong_parent_status: Literal[400, 409] = 409
    """The HTTP status that rejects a grid where an upscaled image is needed: Apiframe's documentation names both."""

    piapi_temporary_urls: bool = True
    """False leaves the URLs of the single images out, as PiAPI does on some plans."""

    iopaint_model: str = "runwayml/stable-diffusion-inpainting"
    """The model that IOPaint runs, one of those in its file; `lama` and `cv2` take no prompt."""

    sdapi_server: Literal["a1111", "forge", "sdnext", "sd.cpp"] = "a1111"
    """Which of the programs that speak sdapi is played."""

    sdapi_models: tuple[str, ...] = ("sd-v1-5-inpainting", "dreamshaper_8")
    """The checkpoints that it has; the first is loaded."""

    sdapi_login: str = ""
    """`user:password` where it was started with one."""

    sdapi_options: Mapping[str, Any] = field(default_factory=dict)
    """The user's own settings there: `samples_format` (png, jpg, webp) and `return_grid`."""

    max_tasks: int = 20_000
    """Tasks kept per vendor; beyond it the oldest is forgotten."""

    max_requests: int = 5_000
    """Requests, webhooks and orders kept for `/control`; the counts of orders stay exact beyond it."""

    max_files: int = 500
    """Drawn images and uploads cached on disk; a drawn one that was dropped is drawn again when it is requested."""

    max_side: int = 1024
    """Pixels. An image that would get larger is drawn from a smaller copy of its parent, so that chains stay cheap."""

    painter: Painter | None = None
    """What draws; None is the local engine."""

    transport: httpx2.AsyncBaseTransport | None = None
    """Carries webhooks, and the requests for input images named by URL; None is real HTTP."""
