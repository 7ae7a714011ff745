"""How a platform takes processes away: each says that it is not ready, finishes what it has begun, and ends.

Probes come as a cluster's do: to the port of the metrics, by an address of which the process knows nothing.
"""

import re
import sys
from pathlib import Path

import anyio
import httpx2
import pytest

from outpaint_mcp.storage.postgres import jobs
from outpaint_mcp.tasks import sending

from ..preloading import Preloaded
from ..s3_server import S3Server
from ..transports.processes import HttpServer, called, http_server, until, variables
from ..transports.test_stop import PROMPTLY, Gate, clients_of, ended_promptly, held_order, holding_vendors
from .fleet import fleet
from .test_workers import DRAWN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")

PROBED = ("--metrics-port", "0", "--metrics-host", "0.0.0.0")  # noqa: S104 (as in a pod)


async def probe(process: HttpServer, path: str) -> int:
    found = re.search(r"serves metrics on http://[^\s/]+:(\d+)/metrics", process.log.decode())
    assert found is not None, process.log.decode()
    async with httpx2.AsyncClient(trust_env=False) as web:
        answer = await web.get(f"http://127.0.0.1:{found[1]}{path}", headers={"Host": "10.1.2.3:9464"})
        return answer.status_code


async def is_unready(process: HttpServer) -> bool:
    return await probe(process, "/readyz") == 503


async def test_a_server_is_not_ready_from_the_signal_on_and_answers_the_calls_that_it_has(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        holding_vendors(gate) as vendors,
        http_server(variables(tmp_path, vendors), *PROBED) as server,
        clients_of(server, "http") as (client,),
    ):
        assert await probe(server, "/readyz") == 200
        async with anyio.create_task_group() as calls:
            waiting = await held_order(vendors, calls, client)
            server.signal()
            await until(lambda: is_unready(server), PROMPTLY)
            assert await probe(server, "/healthz") == 200, "it is not to be killed for that"
            with anyio.fail_after(PROMPTLY):
                await waiting.answered.wait()
            assert waiting.task_id()
            assert server.process.returncode is None, "the vendor has not answered the order yet"
            gate.opened.set()
        assert await ended_promptly(server) == 0


async def test_a_worker_finishes_what_it_is_drawing_and_takes_nothing_new(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    slow = {**DRAWN, "provider_options": {"quality": "best", "variants": 4}}
    async with (
        fleet(preloaded, tmp_path, database_url, s3_server) as (_, programs),
        programs.server("server") as server,
        server.client() as client,
        programs.worker("worker", "--draw", "--concurrency", "1", *PROBED) as at_work,
    ):
        begun = await called(client, "outpaint", **slow, wait_seconds=0)

        async def is_drawn() -> bool:
            told = await called(client, "get_task", task_id=begun["id"])
            return bool(told["status"] == "running")

        await until(is_drawn, 30)
        assert await probe(at_work, "/readyz") == 200
        at_work.signal()
        await until(lambda: is_unready(at_work), PROMPTLY)
        assert await is_drawn(), "it has not finished before the signal"
        late = await called(client, "outpaint", **{**slow, "zoom": 1.6}, wait_seconds=0)
        with anyio.fail_after(jobs.STOP_SECONDS + sending.STOP_SECONDS):
            assert await at_work.process.wait() == 0
        # There was no other worker.
        assert (await called(client, "get_task", task_id=begun["id"]))["status"] == "succeeded"
        assert (await called(client, "get_task", task_id=late["id"]))["status"] == "queued"
