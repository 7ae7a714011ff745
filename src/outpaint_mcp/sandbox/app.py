"""The sandbox itself: the vendors, their images, and the controls, in one ASGI application.

It opens no sockets: `serving` does that. Everything it holds is in memory and in one temporary folder.
"""

from dataclasses import asdict
from typing import get_args

import httpx2
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from outpaint_mcp.domain.errors import InvalidRequestError, OutpaintError, UnknownTaskError
from outpaint_mcp.sandbox.fault_injection import Connections, FaultInjector, RequestRecord
from outpaint_mcp.sandbox.faults import FAULT_DESCRIPTIONS, Fault, Faults
from outpaint_mcp.sandbox.image_specs import ImageSpec
from outpaint_mcp.sandbox.image_store import ImageGoneError, ImageStore
from outpaint_mcp.sandbox.settings import SandboxSettings
from outpaint_mcp.sandbox.tasks import Kind, Order, OrderLog
from outpaint_mcp.sandbox.vendors import VENDORS, environment
from outpaint_mcp.sandbox.vendors.answers import origin_of
from outpaint_mcp.sandbox.vendors.base import SandboxContext, Vendor
from outpaint_mcp.sandbox.vendors.input_images import InputImages
from outpaint_mcp.sandbox.webhooks import Delivery, Webhooks

KINDS: tuple[Kind, ...] = get_args(Kind)
_FAULT = '{"vendor": "legnext", "on": "submit", "fault": "drop"}'


class Sandbox:
    """The vendors on one ASGI application, `app`.

    `faults` makes them misbehave; `orders()`, `requests()` and `deliveries()` say what happened. Webhooks are sent
    while `webhooks.run()` runs (as it does under `serving`), or at each `webhooks.deliver()`.
    """

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.faults = Faults()
        self.connections = Connections()
        self.image_store = ImageStore(
            self.settings.painter, max_side=self.settings.max_side, max_files=self.settings.max_files
        )
        self.webhooks = Webhooks(self.settings.clock, self._client, limit=self.settings.max_requests)
        self._orders = OrderLog(self.settings.max_requests)
        input_images = InputImages(self.image_store, self._client)
        context = SandboxContext(self.settings, input_images, self.webhooks, self._orders)
        self.vendors: dict[str, Vendor] = {name: vendor(context) for name, vendor in VENDORS.items()}
        self.app = FaultInjector(self._starlette(), self.vendors, self.faults, self.connections, self.settings)

    def close(self) -> None:
        """Deletes the images."""
        self.image_store.close()

    def orders(self, vendor: str | None = None, kind: Kind | None = None) -> tuple[Order, ...]:
        """The newest accepted orders, oldest first."""
        return self._orders.list(vendor, kind)

    def order_count(self, vendor: str, kind: Kind) -> int:
        """How many orders the vendor has accepted: exact, also where `orders()` no longer holds them."""
        return self._orders.counts[vendor, kind]

    def requests(self, vendor: str | None = None, action: str | None = None) -> tuple[RequestRecord, ...]:
        """The newest requests, rejected ones too, oldest first."""
        return tuple(
            record for record in self.app.log if vendor in (None, record.vendor) and action in (None, record.action)
        )

    def deliveries(self) -> tuple[Delivery, ...]:
        """The newest webhooks, sent or not, oldest first."""
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
                    for seed in vendor.seeds
                ],
            }
            for name, vendor in self.vendors.items()
        }
        controls = ["/control/faults", "/control/orders", "/control/requests", "/control/webhooks"]
        return JSONResponse(
            {
                "what": "The outpaint-mcp sandbox: the vendors' protocols on this machine. Nothing here costs money.",
                "vendors": vendors,
                "environment": environment(origin),
                "controls": controls,
                "faults": FAULT_DESCRIPTIONS,
            }
        )

    async def _image(self, request: Request) -> Response:
        image = self._find_image(**request.path_params)
        if image is None:
            return _refusal(404, UnknownTaskError("There is no such image.", "Take a URL from a task's answer."))
        try:
            data, mime_type = await self.image_store.read(image)
        except ImageGoneError:
            return _refusal(404, UnknownTaskError("The image is gone.", "Order it again."))
        return Response(data, media_type=mime_type)

    def _find_image(self, vendor: str, id: str, name: str) -> ImageSpec | None:  # noqa: A002 - the route's parameter
        owner = self.vendors.get(vendor)
        if owner is None:
            return None
        stem = name.partition(".")[0]
        if stem == "upload":
            return owner.uploaded_image(id)
        task = owner.tasks.get(id)
        now = self.settings.clock()
        if task is None or owner.is_expired(task, now) or not owner.shows_images(task, now):
            return None
        if stem == "grid":
            return task.grid_image
        return task.images[int(stem)] if stem in ("0", "1", "2", "3") and int(stem) < len(task.images) else None

    async def _list_faults(self, request: Request) -> Response:
        return JSONResponse({"faults": [fault.model_dump() | {"left": left} for fault, left in self.faults.list()]})

    async def _add_fault(self, request: Request) -> Response:
        # Only as application/json: a web page could send anything else here from a visitor's browser.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refusal(
                415, InvalidRequestError("A fault is not taken in this form.", "Send JSON, as application/json.")
            )
        try:
            fault = Fault.model_validate_json(await request.body())
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            words = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in problems)
            return _refusal(
                422, InvalidRequestError(f"The fault cannot be set ({words}).", f"Send one such as {_FAULT}.")
            )
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
        return JSONResponse({"requests": [asdict(record) for record in self.requests()]})

    async def _list_webhooks(self, request: Request) -> Response:
        return JSONResponse({"webhooks": [asdict(delivery) for delivery in self.deliveries()]})


def _refusal(status: int, error: OutpaintError) -> Response:
    return JSONResponse({"error": str(error)}, status)


def create_sandbox(settings: SandboxSettings | None = None) -> Sandbox:
    """A new sandbox, sharing nothing with any other."""
    return Sandbox(settings)
