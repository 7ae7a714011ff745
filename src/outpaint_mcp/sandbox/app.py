"""The sandbox itself: five vendors, their images, and the controls, in one ASGI application.

Knows no sockets: `serving` opens those. Everything it holds is in memory and in one temporary folder.
"""

from dataclasses import asdict
from typing import Any

import httpx2
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from outpaint_mcp.sandbox.apiframe import Apiframe
from outpaint_mcp.sandbox.apimart import APIMart
from outpaint_mcp.sandbox.faults import WHAT_FAULTS_DO, Fault, Faults
from outpaint_mcp.sandbox.gate import Connections, Gate, Received
from outpaint_mcp.sandbox.legnext import Legnext
from outpaint_mcp.sandbox.piapi import PiAPI
from outpaint_mcp.sandbox.pictures import Picture, PictureGoneError, Shelf
from outpaint_mcp.sandbox.seeds import SEEDS, seeds_of
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.tasks import Kind, Order, OrderLog
from outpaint_mcp.sandbox.vendor import Desk, Vendor, origin_of
from outpaint_mcp.sandbox.vtrix import Vtrix
from outpaint_mcp.sandbox.webhooks import Delivery, Webhooks

VENDORS: tuple[type[Vendor], ...] = (PiAPI, Vtrix, Apiframe, APIMart, Legnext)
KINDS: tuple[Kind, ...] = ("outpaint", "upscale", "imagine")


class Sandbox:
    """Five vendors on one ASGI application, `app`.

    `faults` makes it misbehave; `orders()`, `requests()` and `deliveries()` say what happened. Webhooks go out while
    `webhooks.run()` runs (as it does under `serving`), or at each `webhooks.deliver()`.
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.faults = Faults()
        self.connections = Connections()
        self.shelf = Shelf(self.settings.painter, max_side=self.settings.max_side, max_files=self.settings.max_files)
        self.webhooks = Webhooks(self.settings.clock, self._client, limit=self.settings.max_requests)
        self._orders = OrderLog(self.settings.max_requests)
        desk = Desk(self.settings, self.shelf, self.webhooks, self._orders, self._client)
        self.vendors: dict[str, Vendor] = {vendor.name: vendor(desk, seeds_of(vendor.name)) for vendor in VENDORS}
        self.app = Gate(self._starlette(), self.vendors, self.faults, self.connections, self.settings)

    def close(self) -> None:
        """Removes the pictures."""
        self.shelf.close()

    def orders(self, vendor: str | None = None, kind: Kind | None = None) -> tuple[Order, ...]:
        """The accepted orders, oldest first."""
        return self._orders.list(vendor, kind)

    def order_count(self, vendor: str, kind: Kind) -> int:
        """How many orders the vendor accepted, and would charge for."""
        return self._orders.counts[vendor, kind]

    def requests(self, vendor: str | None = None, action: str | None = None) -> tuple[Received, ...]:
        """The requests that came, refused ones too, oldest first."""
        return tuple(
            received
            for received in self.app.log
            if vendor in (None, received.vendor) and action in (None, received.action)
        )

    def deliveries(self) -> tuple[Delivery, ...]:
        """The webhooks that were sent, or not, oldest first."""
        return tuple(self.webhooks.log)

    def _client(self) -> httpx2.AsyncClient:
        # Loopback only, so certificates prove nothing; not loading any saves a tenth of a second each time.
        transport = self.settings.transport or httpx2.AsyncHTTPTransport(verify=False)
        return httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)

    def _starlette(self) -> Starlette:
        routes: list[BaseRoute] = [
            Route("/", self._index),
            Route("/images/{vendor}/{id}/{name}", self._image),
            Route("/control/faults", self._list_faults, methods=["GET"]),
            Route("/control/faults", self._add_fault, methods=["POST"]),
            Route("/control/faults", self._clear_faults, methods=["DELETE"]),
            Route("/control/orders", self._list_orders),
            Route("/control/requests", self._list_requests),
            Route("/control/webhooks", self._list_webhooks),
        ]
        for vendor in self.vendors.values():
            app = Starlette(routes=vendor.routes(), exception_handlers={HTTPException: vendor.no_such_route})
            routes.append(Mount(f"/{vendor.name}", app=app))
        return Starlette(routes=routes)

    async def _index(self, request: Request) -> Response:
        origin = origin_of(request)
        vendors = {
            name: {
                "base_url": f"{origin}/{name}",
                "api_key": vendor.key,
                "seeds": [
                    {"task_id": seed.id, "what": seed.what} | ({"jobId": seed.remote_id} if seed.remote_id else {})
                    for seed in SEEDS
                    if seed.vendor == name
                ],
            }
            for name, vendor in self.vendors.items()
        }
        controls = ["/control/faults", "/control/orders", "/control/requests", "/control/webhooks"]
        return JSONResponse(
            {
                "what": "The outpaint-mcp sandbox: five vendors' protocols on this machine. Nothing here costs money.",
                "vendors": vendors,
                "environment": environment(origin),
                "controls": controls,
                "faults": WHAT_FAULTS_DO,
            }
        )

    async def _image(self, request: Request) -> Response:
        picture = self._picture(**request.path_params)
        if picture is None:
            return JSONResponse({"error": "not found"}, 404)
        try:
            data, mime_type = await self.shelf.read(picture)
        except PictureGoneError:
            return JSONResponse({"error": "gone"}, 404)
        return Response(data, media_type=mime_type)

    def _picture(self, vendor: str, id: str, name: str) -> Picture | None:  # noqa: A002 - the route's parameter
        shop = self.vendors.get(vendor)
        if shop is None:
            return None
        stem = name.partition(".")[0]
        if stem == "upload":
            return shop.uploaded(id) if isinstance(shop, Apiframe) else None
        job = shop.tasks.get(id)
        now = self.settings.clock()
        if job is None or shop.is_expired(job, now) or not shop.shows_images(job, now):
            return None
        if stem == "grid":
            return job.sheet
        return job.pictures[int(stem)] if stem in ("0", "1", "2", "3") and int(stem) < len(job.pictures) else None

    async def _list_faults(self, request: Request) -> Response:
        return JSONResponse({"faults": [fault.model_dump() | {"left": left} for fault, left in self.faults.list()]})

    async def _add_fault(self, request: Request) -> Response:
        # Only JSON as such: a web page could send anything else here from a visitor's browser.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "send application/json"}, 415)
        try:
            fault = Fault.model_validate_json(await request.body())
        except ValidationError as error:
            problems: Any = error.errors(include_url=False, include_context=False, include_input=False)
            return JSONResponse({"error": problems}, 422)
        self.faults.add(fault)
        return JSONResponse(fault.model_dump(), 201)

    async def _clear_faults(self, request: Request) -> Response:
        self.faults.clear()
        return Response(status_code=204)

    async def _list_orders(self, request: Request) -> Response:
        return JSONResponse(
            {
                name: {
                    **{kind: self.order_count(name, kind) for kind in KINDS},
                    "orders": [asdict(order) for order in self.orders(name)],
                }
                for name in self.vendors
            }
        )

    async def _list_requests(self, request: Request) -> Response:
        return JSONResponse({"requests": [asdict(received) for received in self.requests()]})

    async def _list_webhooks(self, request: Request) -> Response:
        return JSONResponse({"webhooks": [asdict(delivery) for delivery in self.deliveries()]})


def create_sandbox(settings: SandboxSettings | None = None) -> Sandbox:
    """A sandbox of its own, sharing nothing with any other."""
    return Sandbox(settings)


def environment(base_url: str) -> dict[str, str]:
    """The settings under which outpaint-mcp speaks to the sandbox at `base_url` (no slash at the end)."""
    variables = {}
    for vendor in VENDORS:
        variables[f"{vendor.name.upper()}_BASE_URL"] = f"{base_url}/{vendor.name}"
        variables[f"{vendor.name.upper()}_API_KEY"] = vendor.key
    # Images and webhooks are on loopback here, and a task takes about two seconds.
    variables["OUTPAINT_ALLOW_PRIVATE_URLS"] = "true"
    variables["OUTPAINT_POLL_SECONDS"] = "0.3,0.3"
    return variables
