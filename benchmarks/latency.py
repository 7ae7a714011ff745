"""How long a client waits after the vendor is done: our scheduler, with and without callbacks, beside polling grids.

Public servers ask every 3, 5 or 30 seconds from the order on. Here all of them look at the same tasks of the same
sandboxes, in real time: orders at Legnext that take 16 to 30 s (ours: first question after 10 s, then every 5 s).
What is measured is from the moment at which the sandbox calls a task finished to the moment at which a client has the
answer; ours includes the copying of the images, the grids' do not.

Run: ``.venv/bin/python benchmarks/latency.py [--tasks 48]``
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.images.library import ImageLibrary
from outpaint_mcp.providers.http_client import HttpClient
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.tasks.scheduler import Scheduler
from outpaint_mcp.tasks.service import Service, ServiceOptions
from outpaint_mcp.web import uvicorn_server

GRIDS = (3.0, 5.0, 30.0)
SHORTEST, LONGEST = 16.0, 30.0
UNFINISHED_STATES = 3
"""Of the sandbox's Legnext: pending, staged, processing."""
PATIENCE = 120.0


@dataclass(slots=True)
class Heard:
    """Seconds from a vendor's being done to the knowledge of it, by way of asking; and the questions put."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)

    def note(self, way: str, seconds: float) -> None:
        assert seconds > -0.05, f"{way} knew before the vendor"
        self.seconds.setdefault(way, []).append(seconds)


class CountedLegnext(Legnext):
    polls = 0

    async def poll(self, remote_id: str):  # type: ignore[no-untyped-def]
        self.polls += 1
        return await super().poll(remote_id)


@contextlib.asynccontextmanager
async def running(folder: Path, legnext: Legnext, *, callbacks: bool) -> AsyncIterator[Service]:
    async with contextlib.AsyncExitStack() as stack:
        listener = uvicorn_server.listening("127.0.0.1", 0) if callbacks else None
        public_url = None if listener is None else uvicorn_server.base_url_of(listener)
        service = Service(
            store=SqliteStore(folder / "store.db", "benchmark"),
            images=ImageLibrary(folder, roots=(), allow_private=True),
            providers={legnext.name: legnext},
            options=ServiceOptions(auto=(legnext.name,), public_url=public_url),
        )
        await stack.enter_async_context(service.running())
        await stack.enter_async_context(Scheduler(service, service.events).running())
        if listener is not None:

            async def receive(request: Request) -> Response:
                where = request.path_params
                taken = await service.handle_callback(
                    where["provider"], where["token"], request.headers, await request.body()
                )
                return PlainTextResponse("ok", 200 if taken else 404)

            app = Starlette(routes=[Route("/webhooks/{provider}/{token}", receive, methods=["POST"])])
            await stack.enter_async_context(uvicorn_server.serving(app, listener))
        yield service


async def one_sandbox(folder: Path, duration: float, tasks: int, client: HttpClient, heard: Heard) -> None:
    settings = SandboxSettings(
        seconds_per_state=duration / UNFINISHED_STATES, painter=PlainPainter(), legnext_concurrency=None
    )
    sandbox = Sandbox(settings)
    async with serving(sandbox) as base_url:
        variables = environment(base_url)

        def legnext() -> CountedLegnext:
            return CountedLegnext(client, key=variables["LEGNEXT_API_KEY"], base_url=variables["LEGNEXT_BASE_URL"])

        def done_at(remote_id: str | None) -> float:
            (order,) = (order for order in sandbox.orders("legnext") if order.id == remote_id)
            return order.at + duration

        asked = {way: legnext() for way in ("ours", "ours, called back", *(f"every {grid:g} s" for grid in GRIDS))}
        async with (
            running(folder / "asks", asked["ours"], callbacks=False) as asks,
            running(folder / "called", asked["ours, called back"], callbacks=True) as called,
            anyio.create_task_group() as watching,
        ):

            async def order(service: Service, way: str, number: int) -> None:
                await anyio.sleep(number)
                task = await service.outpaint(
                    OutpaintRequest(
                        task_id=seed_id("legnext", grid=True),
                        provider="legnext",
                        image_index=1,
                        zoom=1.5,
                        prompt=f"{way} {number}",
                    )
                )
                assert task.remote_id is not None
                if way == "ours":
                    for grid in GRIDS:
                        watching.start_soon(poll, task.remote_id, grid)
                while task.status is not Status.SUCCEEDED:
                    task = await service.get_task(task.id, wait_seconds=45)
                heard.note(way, time.time() - done_at(task.remote_id))

            async def poll(remote_id: str, grid: float) -> None:
                way = f"every {grid:g} s"
                while True:
                    await anyio.sleep(grid)
                    if (await asked[way].poll(remote_id)).status is Status.SUCCEEDED:
                        break
                heard.note(way, time.time() - done_at(remote_id))

            for number in range(tasks):
                watching.start_soon(order, asks, "ours", number)
                watching.start_soon(order, called, "ours, called back", number)
        for way, provider in asked.items():
            # One question for each of our ways takes the parent in.
            heard.questions[way] = heard.questions.get(way, 0) + provider.polls - way.startswith("ours")
    sandbox.close()


async def measure(tasks: int) -> Heard:
    heard = Heard()
    sandboxes = min(tasks, 12)
    with tempfile.TemporaryDirectory() as name, anyio.fail_after(PATIENCE):
        async with HttpClient() as client, anyio.create_task_group() as runs:
            for number in range(sandboxes):
                duration = SHORTEST + (LONGEST - SHORTEST) * (number + 0.37) / sandboxes
                folder = Path(name) / str(number)
                runs.start_soon(one_sandbox, folder, duration, tasks // sandboxes, client, heard)
    return heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=48)
    heard = anyio.run(measure, parser.parse_args().tasks)
    print("| way | tasks | median s | 95 % under s | longest s | questions per task |\n|---|---|---|---|---|---|")
    for way in sorted(heard.seconds, key=lambda way: statistics.median(heard.seconds[way])):
        seconds = sorted(heard.seconds[way])
        late = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        times = f"{statistics.median(seconds):.2f} | {late:.2f} | {seconds[-1]:.2f}"
        print(f"| {way} | {len(seconds)} | {times} | {heard.questions[way] / len(seconds):.1f} |")


if __name__ == "__main__":
    main()
