"""A service whose orders go to the vendors of a sandbox, over real HTTP on loopback."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio

from outpaint_mcp.domain.clock import Clock, SystemClock, Uptime
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Task
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient, Timeouts
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.providers.self_hosted import Tools, build_vendor
from outpaint_mcp.sandbox import VENDORS as SANDBOX_VENDORS
from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

from ..decoding import LibraryInThisProcess
from ..providers.canvases import PlainCanvases
from ..serving import picture

VENDORS = tuple(SANDBOX_VENDORS)
WITH_TASKS = tuple(name for name, vendor in SANDBOX_VENDORS.items() if vendor.seeds)
"""Those that extend finished tasks, of which the sandbox has some; the others extend images only."""
POLLED = tuple(name for name in VENDORS if not cast(type[HttpProvider], provider_classes()[name]).synchronous)
ENGINES = tuple(name for name in VENDORS if provider_classes()[name].self_hosted)
PAID = tuple(name for name in VENDORS if name not in ENGINES)
NEEDS_UPSCALED = ("apiframe", "apimart", "piapi")


def arguments_for(vendor: str, folder: Path, *, grid: bool = False) -> dict[str, Any]:
    """The arguments of an order at a vendor: of its seeded task, or where it has none of an image in `folder`."""
    arguments: dict[str, Any] = {"provider": vendor, "zoom": 1.5}
    if vendor in WITH_TASKS:
        return {**arguments, "task_id": seed_id(vendor, grid=grid), **({"image_index": 3} if grid else {})}
    return {**arguments, "image": str(picture(folder, width=96, height=64, name="own.png"))}


class HastyClock(SystemClock):
    """A clock that goes several times as fast as the machine's: what a service waits for comes that much sooner."""

    TIMES = 10

    def __init__(self) -> None:
        self._began = super().now()
        self._began_at = super().monotonic()

    def now(self) -> float:
        return self._began + self.monotonic() - self._began_at

    def monotonic(self) -> float:
        return self._began_at + (super().monotonic() - self._began_at) * self.TIMES

    def uptime(self) -> Uptime:
        return Uptime("hasty", self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.TIMES)


@dataclass(frozen=True, slots=True)
class ServiceAtSandbox:
    folder: Path
    sandbox: Sandbox
    base_url: str
    service: Service

    def fault(self, vendor: str, on: str, fault: str, **more: Any) -> None:
        self.sandbox.faults.add(Fault.model_validate({"vendor": vendor, "on": on, "fault": fault, **more}))

    def bodies(self, vendor: str, kind: str) -> list[dict[str, Any]]:
        return [order.body for order in self.sandbox.orders(vendor, kind)]  # type: ignore[arg-type]

    async def order(self, vendor: str, *, grid: bool = False, **changes: Any) -> Task:
        """Orders at a vendor from its seeded task, or from an own image, and waits for the end."""
        return await self.finished(OutpaintRequest(**{**arguments_for(vendor, self.folder, grid=grid), **changes}))

    async def finished(self, request: OutpaintRequest) -> Task:
        task = await self.service.outpaint(request, at_least=20)
        with anyio.fail_after(120):
            while not task.status.ends_a_wait:
                task = await self.service.get_task(task.id, wait_seconds=5)
        return task


@contextlib.asynccontextmanager
async def service_at_sandbox(
    folder: Path,
    *,
    settings: SandboxSettings | None = None,
    sandbox: Sandbox | None = None,
    read_timeout: float = 1.0,
    workflow: Path | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> AsyncIterator[ServiceAtSandbox]:
    """A service at a sandbox that is closed after it, or at `sandbox`, which is not."""
    settings = settings or SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), legnext_concurrency=None)
    found, sandbox = sandbox, sandbox or Sandbox(settings)
    timeouts = Timeouts(connect=2, pool=2, write=2, read=read_timeout, read_total=5, order_total=5)
    async with (
        serving(sandbox) as base_url,
        # Backing off is tested elsewhere; here nothing waits for it.
        HttpClient(timeouts=timeouts, sleep=lambda seconds: anyio.sleep(min(seconds, 0.01))) as client,
    ):
        variables = environment(base_url)
        images = LibraryInThisProcess(folder, roots=(folder,), allow_private=True)
        providers: dict[str, Provider] = {}
        tools = Tools(client, images.keep_answer, PlainCanvases())
        for name, one in provider_classes().items():
            if issubclass(one, HttpProvider):
                key, base = variables.get(one.key_env), variables[f"{name.upper()}_BASE_URL"]
                providers[name] = build_vendor(one, tools, key=key, base_url=base, workflow=workflow)
        providers["local"] = LocalProvider(folder)
        defaults: dict[str, Any] = {"auto": tuple(providers), "poll": (0.02, 0.02)}
        service = Service(
            store=SqliteStore(folder / "store.db", "test"),
            images=images,
            providers=providers,
            options=ServiceOptions(**{**defaults, **options}),
            clock=clock,
        )
        async with service.running(), Scheduler(service, service.events, clock=clock).running():
            yield ServiceAtSandbox(folder, sandbox, base_url, service)
    if found is None:
        sandbox.close()
