"""Two servers and three workers on one database and one bucket, of which anything may die or be away at any time."""

import contextlib
import functools
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp_types import CallToolResult

from ..images.test_library import DATA_URI
from ..postgres_server import PostgresServer
from ..preloading import Preloaded
from ..s3_server import S3Server
from ..transports.processes import Vendors, an_order, text_of
from .fleet import Fleet, fleet, image_of

SEEDS: Final = tuple(range(int(os.environ.get("OUTPAINT_TEST_FLEETS", "1"))))
SERVERS: Final = ("server-0", "server-1")
WORKERS: Final = {"poll": ("--poll",), "draw": ("--draw", "--concurrency", "2"), "both": ()}
FINAL: Final = ("succeeded", "failed", "cancelled", "unknown")
FAULTS: Final = 8
LEAST_SECONDS: Final = 240.0


def orders_of(seed: int) -> list[dict[str, Any]]:
    """What the clients ask for: tasks of two orders, of one, an answer that is paid and held, and drawings."""
    image = {"image": DATA_URI, "zoom": 1.5}
    paid = [{**image, "provider": "openai", "prompt": f"paid {seed} {number}"} for number in range(2)]
    drawn = [{**image, "provider": "local", "provider_options": {"seed": number}} for number in range(3)]
    held = [{**image, "provider": "sdapi", "prompt": f"held {seed}"}]
    return [*(an_order(grid=number % 2 == 0) for number in range(4)), *paid, *drawn, *held]


def ordered(vendors: Vendors) -> Counter[tuple[str, str]]:
    """How many orders the vendors took, by kind and what was asked for."""
    found: Counter[tuple[str, str]] = Counter()
    for one in vendors.sandbox.orders():
        if one.vendor == "legnext":
            found[one.kind, str(one.body.get("remixPrompt"))] += 1
        elif one.vendor == "openai":
            found[one.kind, str(one.body.get("prompt"))] += 1
    return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_dies_each_order_is_placed_once_and_every_client_gets_its_answer(
    tmp_path: Path,
    preloaded: Preloaded,
    database_url: str,
    postgres_server: PostgresServer,
    s3_server: S3Server,
    seed: int,
) -> None:
    chance = random.Random(seed)  # noqa: S311 (a schedule)
    orders = orders_of(seed)
    # Four tasks at Legnext, two of them of two orders, and two at OpenAI: the last one that comes is one too many.
    most = 7
    answers: dict[int, dict[str, Any]] = {}

    async def ask(number: int, programs: Fleet) -> None:
        """As a client does: the same call again, at whichever server, until it has its answer."""
        while number not in answers:
            with contextlib.suppress(Exception), anyio.move_on_after(15):
                server = await programs.any_of(*chance.sample(SERVERS, 2))
                async with server.client() as client:
                    told = await client.call_tool("outpaint", {**orders[number], "wait_seconds": 3})
                if (answer := _answer(told)) is not None:
                    answers[number] = answer
                    return
            await anyio.sleep(0.1)

    async def break_things(programs: Fleet, vendors: Vendors) -> None:
        things = [*SERVERS, *WORKERS, "database", "bucket", "anything"]
        chance.shuffle(things)
        for thing in things[:FAULTS]:
            await anyio.sleep(chance.uniform(0.3, 1.5))
            vendors.finish()
            if thing == "database":
                postgres_server.stop()
                await anyio.sleep(0.5)
                postgres_server.start()
            elif thing == "bucket":
                with s3_server.hanging():
                    await anyio.sleep(3)
            else:
                thing = chance.choice([*SERVERS, *WORKERS]) if thing == "anything" else thing
                # What died of the fault before may still be among those that run.
                with contextlib.suppress(ProcessLookupError):
                    if thing in programs.running:
                        programs.running[thing].signal(signal.SIGKILL)

    async with fleet(preloaded, tmp_path, database_url, s3_server, OUTPAINT_MAX_ORDERS_PER_DAY=str(most)) as (
        vendors,
        programs,
    ):
        async with anyio.create_task_group() as tasks:
            for name in SERVERS:
                tasks.start_soon(programs.keep_running, name, functools.partial(programs.server, name))
            for name, options in WORKERS.items():
                tasks.start_soon(programs.keep_running, name, functools.partial(programs.worker, name, *options))
            await programs.any_of(*SERVERS)
            async with anyio.create_task_group() as clients:
                for number in range(len(orders)):
                    clients.start_soon(ask, number, programs)
                clients.start_soon(break_things, programs, vendors)
                with anyio.fail_after(LEAST_SECONDS):
                    while len(answers) < len(orders):
                        vendors.finish()
                        await anyio.sleep(0.2)
            server = await programs.any_of(*SERVERS)
            for number, answer in answers.items():
                if orders[number]["provider"] == "local":
                    assert answer["status"] == "succeeded", answer
                if answer.get("status") == "succeeded":
                    assert await image_of(server, answer)
            tasks.cancel_scope.cancel()
        placed = ordered(vendors)
    upscales = sum(count for (kind, _), count in placed.items() if kind == "upscale")
    assert upscales <= sum("image_index" in order for order in orders)
    assert all(count == 1 for (kind, _), count in placed.items() if kind != "upscale"), placed
    assert placed.total() <= most
    ids = [answer["id"] for answer in answers.values() if "id" in answer]
    assert len(set(ids)) == len(ids)
    refused = [answer for answer in answers.values() if "id" not in answer]
    assert all(answer["text"].startswith("[budget_exceeded] ") for answer in refused), refused


def _answer(told: CallToolResult) -> dict[str, Any] | None:
    """What a client is content with: a task that is final, or that it may order no more today."""
    if told.is_error:
        return {"text": text_of(told)} if text_of(told).startswith("[budget_exceeded] ") else None
    task: dict[str, Any] = told.structured_content or {}
    return task if task.get("status") in FINAL else None
