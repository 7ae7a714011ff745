"""Prometheus metrics of a server over HTTP, counted and written by prometheus-client.

What is in the store is counted there on each scrape, so that it survives a restart and holds for all processes on the
store; what only this process sees is counted as it happens.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from outpaint_mcp.domain.events import Observer
from outpaint_mcp.tasks.service import Service

LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90)
LAG_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300)


class Metrics(Observer):
    """Counts what it observes, and writes it together with what the store holds."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "outpaint_provider_requests",
            "Requests to providers, by what came of them: an HTTP status or a kind of failure",
            ("provider", "kind", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "outpaint_provider_request_seconds",
            "How long providers took to answer",
            ("provider", "kind"),
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self._lag = Histogram(
            "outpaint_poll_lag_seconds",
            "How late tasks were advanced after they were due",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        self._orders = Gauge(
            "outpaint_orders",
            "Orders in the store, by how far they came",
            ("provider", "state"),
            registry=registry,
        )
        self._tasks = Gauge("outpaint_tasks", "Tasks in the store", ("provider", "status"), registry=registry)
        self._overdue = Gauge(
            "outpaint_overdue_seconds",
            "For how long the first due task in the store has been due",
            ("provider",),
            registry=registry,
        )
        self._waiting = Gauge(
            "outpaint_waiting_orders",
            "Orders that wait for a place at their provider",
            ("provider",),
            registry=registry,
        )
        self._jobs = Gauge(
            "outpaint_jobs", "Jobs of workers, by kind and status", ("kind", "status"), registry=registry
        )
        self._stalled = Gauge(
            "outpaint_jobs_stalled", "Jobs of workers that no longer say that they are alive", registry=registry
        )
        self._claims_lost = Counter(
            "outpaint_claims_lost",
            "Tasks that another process took over while this one was at work on them",
            registry=registry,
        )
        self._counted_lost = 0
        self._calls = Gauge("outpaint_calls", "Calls that are being answered or wait", registry=registry)
        self._left_usd = Gauge(
            "outpaint_budget_left_usd", "What a client may still order today, in USD", ("client",), registry=registry
        )
        self._left_orders = Gauge(
            "outpaint_budget_left_orders", "How many orders a client has left today", ("client",), registry=registry
        )

    def asked(self, provider: str, kind: str, outcome: str, seconds: float) -> None:
        self._requests.labels(provider, kind, outcome).inc()
        self._seconds.labels(provider, kind).observe(seconds)

    def advanced_late(self, seconds: float) -> None:
        self._lag.observe(max(0.0, seconds))

    async def page(self, service: Service) -> bytes:
        """The metrics in Prometheus's text format.

        Raises:
            ConfigurationError: the store cannot be read.
        """
        figures = await service.figures()
        for gauge, values in (
            (self._orders, figures.orders),
            (self._tasks, figures.tasks),
            (self._jobs, figures.jobs),
        ):
            gauge.clear()
            for (name, word), count in values.items():
                gauge.labels(name, word).set(count)
        for gauge, numbers in ((self._overdue, figures.overdue), (self._waiting, figures.waiting)):
            gauge.clear()
            for provider, number in numbers.items():
                gauge.labels(provider).set(number)
        self._stalled.set(figures.stalled)
        self._claims_lost.inc(figures.claims_lost - self._counted_lost)
        self._counted_lost = figures.claims_lost
        self._calls.set(figures.calls)
        self._left_usd.clear()
        self._left_orders.clear()
        for client, left in figures.left.items():
            if left.usd is not None:
                self._left_usd.labels(client).set(left.usd)
            if left.orders is not None:
                self._left_orders.labels(client).set(left.orders)
        return generate_latest(self._registry)
