"""What a server leaves to workers, and what becomes of it if one dies."""

import signal
from pathlib import Path

import anyio

from ..images.test_library import DATA_URI
from ..preloading import Preloaded
from ..s3_server import S3Server
from ..transports.processes import an_order, called, until
from .fleet import fleet, image_of

DRAWN = {"image": DATA_URI, "provider": "local", "zoom": 1.5, "provider_options": {"quality": "fast"}}


async def test_a_server_accepts_sends_and_answers_and_a_worker_does_the_rest(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    async with (
        fleet(preloaded, tmp_path, database_url, s3_server) as (vendors, programs),
        programs.server("server") as server,
        server.client() as client,
    ):
        drawn = await called(client, "outpaint", **DRAWN, wait_seconds=0)
        held = await called(
            client, "outpaint", **{**DRAWN, "provider": "sdapi", "provider_options": {}}, wait_seconds=0
        )
        order = an_order()
        sent = await called(client, "outpaint", **order, wait_seconds=0)
        assert len(vendors.orders(order["prompt"])) == 1, "a server sends orders"
        paid = await called(
            client, "outpaint", image=DATA_URI, provider="openai", zoom=1.5, prompt="a lake", wait_seconds=3
        )
        vendors.finish()
        await anyio.sleep(1)
        for task in (drawn, held, sent, paid):
            told = await called(client, "get_task", task_id=task["id"])
            assert told["status"] in ("queued", "running"), "nobody follows it, and nobody draws"
        async with programs.worker("worker") as at_work:
            for task in (drawn, held, sent, paid):
                told = await called(client, "get_task", task_id=task["id"], wait_seconds=40)
                assert told["status"] == "succeeded", (told, at_work.log.decode())
                assert await image_of(server, told)
            at_work.signal()
            assert await at_work.exit_code() == 0


async def test_what_a_worker_drew_when_it_was_killed_is_drawn_by_another(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    async with (
        fleet(preloaded, tmp_path, database_url, s3_server) as (_, programs),
        programs.server("server") as server,
        server.client() as client,
    ):
        slow = {**DRAWN, "provider_options": {"quality": "best", "variants": 4}}
        task = await called(client, "outpaint", **slow, wait_seconds=0)
        async with programs.worker("first") as first:

            async def is_drawn() -> bool:
                told = await called(client, "get_task", task_id=task["id"])
                return bool(told["status"] == "running")

            await until(is_drawn, 30)
            first.signal(signal.SIGKILL)
            async with programs.worker("second", "--poll", "--draw", "--concurrency", "1"):
                with anyio.fail_after(60):
                    told = await called(client, "get_task", task_id=task["id"], wait_seconds=40)
    assert told["status"] == "succeeded", told
