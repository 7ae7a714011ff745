"""What an operator can ask a server: metrics, whether it is well, and the traces of what it did."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.counting import MovedClock, running, service_over
from tests.serving import settings_for

from outpaint_mcp.bootstrap import build_http_app
from outpaint_mcp.cli.serve import build_metrics
from outpaint_mcp.domain.daily_limits import DailyLimits
from outpaint_mcp.domain.errors import ProviderUnavailableError
from outpaint_mcp.domain.events import Observer
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.providers.calls import ApiCall, Endpoint
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, environment, seed_id
from outpaint_mcp.tasks.service import Service
from outpaint_mcp.web.metrics import Metrics

KEY = "key-of-the-operator-0123456789"


def line(page: bytes, beginning: str) -> float:
    """The value of the only metric whose line begins so."""
    (found,) = (text for text in page.decode().splitlines() if text.startswith(beginning))
    return float(found.rpartition(" ")[2])


@contextlib.asynccontextmanager
async def one_order(
    folder: Path, *, observer: Observer | None = None, limits: DailyLimits | None = None
) -> AsyncIterator[Service]:
    """A service at which one order was placed with Legnext's sandbox and followed to its end."""
    clock = MovedClock()
    sandbox = Sandbox(SandboxSettings(seconds_per_state=5, painter=PlainPainter(), clock=clock.now))
    variables = environment("http://127.0.0.1:1")
    async with HttpClient(transport=httpx2.ASGITransport(sandbox.app), observer=observer) as client:
        legnext = Legnext(client, key=variables["LEGNEXT_API_KEY"], base_url=variables["LEGNEXT_BASE_URL"])
        service = service_over(folder, legnext, clock=clock, daily_limits=limits or DailyLimits())
        async with running(service, clock):
            grid = seed_id("legnext", grid=True)
            request = OutpaintRequest(task_id=grid, provider="legnext", image_index=1, zoom=1.5)
            task = await service.outpaint(request, client="token:ann")
            assert task.status in (Status.QUEUED, Status.RUNNING)
            await clock.move(60)
            yield service
    sandbox.close()


async def test_the_metrics_tell_of_orders_outcomes_latency_and_what_is_left_of_a_budget(tmp_path: Path) -> None:
    metrics = Metrics()
    async with one_order(tmp_path, observer=metrics, limits=DailyLimits(usd=1.0, orders=5)) as service:
        page = await metrics.page(service)
    assert line(page, 'outpaint_provider_requests_total{kind="order",outcome="200",provider="legnext"}') == 1
    assert line(page, 'outpaint_provider_request_seconds_count{kind="read",provider="legnext"}') >= 1
    assert line(page, 'outpaint_orders{provider="legnext",state="accepted"}') == 1
    assert line(page, 'outpaint_tasks{provider="legnext",status="succeeded"}') == 2, "the parent was taken in"
    assert line(page, 'outpaint_overdue_seconds{provider="legnext"}') == 0, "nothing is open"
    assert line(page, 'outpaint_budget_left_orders{client="token:ann"}') == 4
    assert line(page, 'outpaint_budget_left_usd{client="token:ann"}') == pytest.approx(0.92)


async def test_a_provider_that_cannot_be_reached_is_counted_as_such(tmp_path: Path) -> None:
    metrics = Metrics()

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async def no_sleep(_: float) -> None:
        pass

    endpoint = Endpoint("Vendor", "http://vendor.test", {"x-api-key": KEY}, lambda status, body: None, name="vendor")
    async with HttpClient(transport=httpx2.MockTransport(refuse), sleep=no_sleep, observer=metrics) as client:
        with pytest.raises(ProviderUnavailableError):
            await client.order(endpoint, ApiCall("POST", "/order", json={}), lambda body: body)
    async with one_order(tmp_path) as service:
        page = await metrics.page(service)
    assert line(page, 'outpaint_provider_requests_total{kind="order",outcome="ConnectError",provider="vendor"}') == 1


async def test_the_operators_port_serves_metrics_and_health_and_the_callers_port_no_metrics(tmp_path: Path) -> None:
    metrics = build_metrics()
    app = build_http_app(settings_for(tmp_path), host="127.0.0.1", port=8000, observer=metrics)
    own = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.for_operators(metrics)), base_url="http://10.0.0.7:9")
    clients = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi), base_url="http://127.0.0.1:8000")
    async with own, clients:
        assert (await own.get("/readyz")).status_code == 503
        assert (await clients.get("/readyz")).status_code == 503
        assert (await clients.get("/healthz")).text == "ok"
        async with app.running():
            assert (await own.get("/readyz")).text == "ready"
            assert (await clients.get("/readyz")).text == "ready"
            page = await own.get("/metrics")
            assert page.headers["content-type"].startswith("text/plain")
            assert "outpaint_calls 0.0" in page.text
            assert (await clients.get("/metrics")).status_code == 404
        assert (await own.get("/readyz")).status_code == 503


async def test_a_store_that_cannot_be_read_is_not_ready(tmp_path: Path) -> None:
    app = build_http_app(settings_for(tmp_path), host="127.0.0.1", port=8000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.db").write_bytes(b"this is no database" * 100)
    clients = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi), base_url="http://127.0.0.1:8000")
    async with clients, app.running():
        answer = await clients.get("/readyz")
    assert (answer.status_code, answer.text[:16]) == (503, "[configuration] ")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is traced; OpenTelemetry has one provider per process, which can be set once: so it is put there here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


async def test_the_trace_of_a_call_goes_on_into_the_vendors_calls_and_holds_no_key(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer("test").start_as_current_span("tools/call outpaint") as call:
        async with one_order(tmp_path):
            pass
    found = spans.get_finished_spans()
    (order,) = (span for span in found if span.name == "order legnext")
    assert order.context is not None
    assert order.context.trace_id == call.get_span_context().trace_id
    attributes = dict(order.attributes or {})
    assert attributes["http.response.status_code"] == 200
    assert attributes["server.address"] == "127.0.0.1"
    told = " ".join(_everything(span) for span in found)
    assert environment("http://127.0.0.1:1")["LEGNEXT_API_KEY"] not in told
    assert seed_id("legnext", grid=True) not in told


async def test_questions_that_nobody_waits_for_are_no_traces_of_their_own(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    async with one_order(tmp_path):
        pass
    assert [span.name for span in spans.get_finished_spans()] == ["order legnext"]


def _everything(span: ReadableSpan) -> str:
    return f"{span.name} {dict(span.attributes or {})} {[event.attributes for event in span.events]} {span.status}"
