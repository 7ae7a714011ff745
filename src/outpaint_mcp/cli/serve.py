"""The command `serve`: serves MCP on stdin and stdout, or over HTTP, until the process is asked to end."""

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import anyio

from outpaint_mcp.bootstrap import build_http_app, configured, open_service
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from outpaint_mcp.web.app import HttpApp
    from outpaint_mcp.web.metrics import Metrics

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter's lock while another wants it."""


def serve_stdio() -> None:
    """Serve MCP on stdin and stdout until stdin ends, or the process is asked to end."""
    from outpaint_mcp.domain.events import TaskEvents
    from outpaint_mcp.server.app import build_server
    from outpaint_mcp.server.lazy_service import LazyService
    from outpaint_mcp.server.stdio import serve_stdio as serve
    from outpaint_mcp.server.tools import ResultShape

    # The settings are read only when the service is opened: `tools/list` does not depend on them.
    settings = functools.cache(configured)

    def shape() -> ResultShape:
        return ResultShape(settings().resource_links, settings().preview)

    events = TaskEvents()
    lazy = LazyService(lambda: open_service(settings(), events=events))

    async def end_when_asked() -> None:
        with asked_to_end() as first:
            number = await first()
            await lazy.end()
        # A thread blocks in reading stdin; only the end of the process ends it.
        os._exit(128 + int(number))

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_when_asked)
            await serve(build_server(lazy, shape, events=events))
            tasks.cancel_scope.cancel()

    anyio.run(run)


def serve_http(
    *,
    transport: str,
    host: str,
    port: int,
    sse: bool,
    insecure: bool,
    public_url: str | None,
    metrics_address: tuple[str, int] | None,
) -> None:
    """Serve MCP over HTTP until the process is asked to end.

    Args:
        transport: ``http`` or ``sse``.
        host: the address to listen on.
        port: 0 is any free one.
        sse: with ``http``, whether SSE is served too.
        insecure: whether anyone on the network may use it without a token.
        public_url: the URL that others reach it at, instead of the setting's.
        metrics_address: where metrics are served, if anywhere.

    Raises:
        ConfigurationError: an address cannot be listened on, or anyone on the network could use it without leave.
    """
    from outpaint_mcp.web.uvicorn_server import allow_many_files, give_memory_back

    allow_many_files()
    give_memory_back()
    # Threads that return from the disk need the interpreter's lock soon, and so does the event loop.
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = configured(**({} if public_url is None else {"public_url": public_url}))
    metrics = None if metrics_address is None else build_metrics()
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(listener_at(host, port))
        app = build_http_app(
            settings,
            host=listener.getsockname()[0],
            port=listener.getsockname()[1],
            transport=transport,
            sse=sse,
            insecure=insecure,
            observer=metrics,
        )
        served = [(app.asgi, listener, app.paths)]
        if metrics is not None and metrics_address is not None:
            other = sockets.enter_context(listener_at(*metrics_address))
            served.append((app.for_operators(metrics), other, ("/metrics",)))
        anyio.run(_run_http, app, served)


def build_metrics() -> "Metrics":
    """What counts for Prometheus.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    try:
        from outpaint_mcp.web.metrics import Metrics
    except ImportError:
        raise ConfigurationError(
            "Metrics need the package prometheus-client.", "Install outpaint-mcp[metrics], or leave --metrics-port out."
        ) from None
    return Metrics()


def listener_at(host: str, port: int) -> "socket.socket":
    """A socket that listens there. Raises ConfigurationError if there can be none."""
    from outpaint_mcp.web.uvicorn_server import listening

    try:
        return listening("127.0.0.1" if host == "localhost" else host, port)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"{host} port {port} cannot be listened on: {error}.", "Try another address or port."
        ) from None


async def _run_http(app: "HttpApp", served: "list[tuple[ASGIApp, socket.socket, tuple[str, ...]]]") -> None:
    """Serve until the process is asked to end; then answer waiting requests, and let sent orders be answered."""
    from outpaint_mcp.web.uvicorn_server import base_url_of, serving

    refusal: OutpaintError | None = None
    async with contextlib.AsyncExitStack() as servers:
        for asgi, listener, _ in served:
            await servers.enter_async_context(serving(asgi, listener))
        try:
            async with app.running():
                collect_rarely()
                with asked_to_end() as first:
                    for _, listener, paths in served:
                        for path in paths:
                            what = "metrics" if path == "/metrics" else "MCP"
                            sys.stderr.write(f"outpaint-mcp serves {what} on {base_url_of(listener)}{path}\n")
                    sys.stderr.flush()
                    await first()
        except OutpaintError as error:
            # Raised outside of the task groups, which would wrap it.
            refusal = error
    if refusal is not None:
        raise refusal


def collect_rarely() -> None:
    """Keep the garbage collector from blocking all clients, for 0.2 s at a time.

    The objects of a server that is ready stay alive, so they are not scanned again; and most of what a request
    allocates is freed by reference counting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 100)


@contextlib.contextmanager
def asked_to_end() -> Iterator[Callable[[], Awaitable[int]]]:
    """Within the block SIGINT and SIGTERM do not end the process; what is yielded waits for the first of them."""
    if sys.platform == "win32":
        # It has no such signals: Ctrl-C raises KeyboardInterrupt.
        yield anyio.sleep_forever
        return
    import signal

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        yield signals.__anext__
    # The second one ends the process at once. Python's KeyboardInterrupt would be raised in whatever task runs then,
    # and uvicorn logs and drops it when that is a request's.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
