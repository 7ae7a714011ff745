"""A service whose orders go to the vendors of a sandbox, over real HTTP on loopback."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Task
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_client import HttpClient, Timeouts
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.sandbox import VENDORS as SANDBOX_VENDORS
from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.storage.store import Store
from outpaint_mcp.tasks.options import ServiceOptions
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service

VENDORS = tuple(SANDBOX_VENDORS)
NEEDS_UPSCALED = ("apiframe", "apimart", "piapi")


@dataclass(frozen=True, slots=True)
class ServiceAtSandbox:
    sandbox: Sandbox
    base_url: str
    service: Service

    def fault(self, vendor: str, on: str, fault: str, **more: Any) -> None:
        self.sandbox.faults.add(Fault.model_validate({"vendor": vendor, "on": on, "fault": fault, **more}))

    def bodies(self, vendor: str, kind: str) -> list[dict[str, Any]]:
        return [order.body for order in self.sandbox.orders(vendor, kind)]  # type: ignore[arg-type]

    async def order(self, vendor: str, *, grid: bool = False, **changes: Any) -> Task:
        """Orders at a vendor from its seeded task, and waits for the end."""
        defaults = {"task_id": seed_id(vendor, grid=grid), "provider": vendor, "zoom": 1.5}
        if grid:
            defaults["image_index"] = 3
        return await self.finished(OutpaintRequest(**{**defaults, **changes}))

    async def finished(self, request: OutpaintRequest) -> Task:
        task = await self.service.outpaint(request)
        with anyio.fail_after(20):
            while not task.status.ends_a_wait:
                task = await self.service.get_task(task.id, wait_seconds=5)
        return task


@contextlib.asynccontextmanager
async def service_at_sandbox(
    folder: Path, *, settings: SandboxSettings | None = None, read_timeout: float = 1.0, **options: Any
) -> AsyncIterator[ServiceAtSandbox]:
    sandbox = Sandbox(
        settings or SandboxSettings(seconds_per_state=0.02, painter=PlainPainter(), legnext_concurrency=None)
    )
    timeouts = Timeouts(connect=2, pool=2, write=2, read=read_timeout, read_total=5, order_total=5)
    async with (
        serving(sandbox) as base_url,
        # Backing off is tested elsewhere; here nothing waits for it.
        HttpClient(timeouts=timeouts, sleep=lambda seconds: anyio.sleep(min(seconds, 0.01))) as client,
    ):
        variables = environment(base_url)
        providers: dict[str, Provider] = {}
        for name, one in provider_classes().items():
            if issubclass(one, HttpProvider):
                key, base = variables[one.key_env], variables[f"{name.upper()}_BASE_URL"]
                providers[name] = one(client, key=key, base_url=base)
        providers["local"] = LocalProvider(folder)
        defaults: dict[str, Any] = {"auto": tuple(providers), "poll": (0.02, 0.02)}
        service = Service(
            store=Store(folder / "store.db", "test"),
            images=ImageLibrary(folder, roots=(folder,), allow_private=True),
            providers=providers,
            options=ServiceOptions(**{**defaults, **options}),
        )
        async with service.running(), Scheduler(service, service.events).running():
            yield ServiceAtSandbox(sandbox, base_url, service)
    sandbox.close()
