"""The command `worker`: does what the servers on a database leave to workers, until the process is asked to end."""

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

import anyio

from outpaint_mcp.bootstrap import Work, configured, open_service
from outpaint_mcp.cli.commands import DONE
from outpaint_mcp.cli.options import PORT, whole_number
from outpaint_mcp.cli.serve import asked_to_end, build_metrics, collect_rarely, listener_at
from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.front import Front

if TYPE_CHECKING:
    import socket

    from outpaint_mcp.settings import Settings
    from outpaint_mcp.tasks.service import Service
    from outpaint_mcp.web.metrics import Metrics

MOST_JOBS = 256
"""The most jobs that one worker may do at a time."""


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Give ``worker`` its options."""
    parser.add_argument("--poll", action="store_true", help="ask providers how open tasks stand, and go on with them")
    parser.add_argument("--draw", action="store_true", help="draw, copy images and clean up; without either: both")
    parser.add_argument(
        "--concurrency",
        type=whole_number(1, MOST_JOBS),
        metavar="N",
        help="how many images it draws or copies at a time (default: one per core)",
    )
    parser.add_argument("--metrics-port", type=PORT, metavar="PORT", help="serve Prometheus metrics and health checks")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="the address for them (default: 127.0.0.1)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from outpaint_mcp.images.child_processes import usable_cores
    from outpaint_mcp.web.uvicorn_server import allow_many_files, give_memory_back

    allow_many_files()
    give_memory_back()
    settings = configured(workers=True)
    both = not options.poll and not options.draw
    work = Work(options.poll or both, (options.concurrency or usable_cores()) if options.draw or both else 0)
    metrics = None if options.metrics_port is None else build_metrics()
    with contextlib.ExitStack() as sockets:
        listener = None
        if metrics is not None:
            listener = sockets.enter_context(listener_at(options.metrics_host, options.metrics_port))
        anyio.run(_work, settings, work, metrics, listener)
    return DONE


async def _work(settings: "Settings", work: Work, metrics: "Metrics | None", listener: "socket.socket | None") -> None:
    refusal: OutpaintError | None = None
    async with contextlib.AsyncExitStack() as stack:
        opened: list[Service] = []
        if metrics is not None and listener is not None:
            await _serve_operators(stack, opened, metrics, listener)
        try:
            public_url = None if settings.public_url is None else settings.public_url.rstrip("/")
            service = await stack.enter_async_context(
                open_service(settings, front=Front.HTTP, observer=metrics, public_url=public_url, work=work)
            )
            await service.check()
            opened.append(service)
            collect_rarely()
            async with anyio.create_task_group() as tasks:
                if work.at_once:
                    tasks.start_soon(service.work, work.at_once)
                with asked_to_end() as first:
                    does = [*["polls"] * work.polls, *[f"does {work.at_once} jobs at a time"] * bool(work.at_once)]
                    sys.stderr.write(f"outpaint-mcp {' and '.join(does)}\n")
                    sys.stderr.flush()
                    await first()
                # What was begun is finished; readiness says that no more is taken.
                opened.clear()
                tasks.cancel_scope.cancel()
        except OutpaintError as error:
            # Raised outside of the task groups, which would wrap it.
            refusal = error
    if refusal is not None:
        raise refusal


async def _serve_operators(
    stack: contextlib.AsyncExitStack, opened: "list[Service]", metrics: "Metrics", listener: "socket.socket"
) -> None:
    from outpaint_mcp.web.operators import NOT_OPEN, Operators
    from outpaint_mcp.web.uvicorn_server import base_url_of, serving

    async def service() -> "Service":
        if not opened:
            raise NOT_OPEN.again()
        return opened[0]

    await stack.enter_async_context(serving(Operators(service, lambda: bool(opened)).app(metrics), listener))
    sys.stderr.write(f"outpaint-mcp serves metrics on {base_url_of(listener)}/metrics\n")
