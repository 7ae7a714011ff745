"""Vendors' callbacks over HTTP: what the sandbox sends is heeded, and nothing that anybody else sends.

The server asks a vendor by itself once in six minutes here, so whatever is noticed sooner came with a callback.
"""

import base64
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client

from outpaint_mcp.bootstrap import build_http_app
from outpaint_mcp.sandbox import Order, environment, seed_id
from outpaint_mcp.web.callbacks import MAX_BYTES as MAX_CALLBACK_BYTES
from outpaint_mcp.web.uvicorn_server import base_url_of, listening, serving

from ..serving import picture, settings_for
from .processes import Vendors, an_order, called, http_server, open_vendors, text_of, until, variables

RARELY = (60.0, 60.0)
SOON = 30.0
"""Seconds within which only a callback can have been the reason."""


@dataclass(frozen=True, slots=True)
class Called:
    """A server in this process that vendors can call back, a client of it, and one that speaks plain HTTP."""

    vendors: Vendors
    client: Client
    http: httpx2.AsyncClient

    async def order(self, vendor: str = "legnext", **changes: Any) -> tuple[dict[str, Any], Order]:
        """An unfinished task, and its order as the vendor took it."""
        order = {**an_order(), "task_id": seed_id(vendor, grid=vendor == "legnext"), "provider": vendor, **changes}
        if vendor != "legnext":
            order["image_index"] = 1
        if vendor == "apiframe":
            del order["prompt"]
        task = await called(self.client, "outpaint", **order, wait_seconds=0)
        return task, self.vendors.sandbox.orders(vendor)[-1]

    async def call(self, path: str, body: bytes, method: str = "POST", **headers: str) -> httpx2.Response:
        return await self.http.request(method, path, content=body, headers=headers)

    async def is_unnoticed(self, task: dict[str, Any]) -> bool:
        """Whether the vendor was not asked; what it would answer by now is that the task is done."""
        now = await called(self.client, "get_task", task_id=task["id"])
        return now["status"] in ("queued", "running") and self.vendors.polls(task["remote_id"]) == 0

    async def finished(self, task: dict[str, Any]) -> dict[str, Any]:
        with anyio.fail_after(SOON):
            return await called(self.client, "get_task", task_id=task["id"], wait_seconds=45)


@contextlib.asynccontextmanager
async def serving_callbacks(
    folder: Path, vendors: Vendors, *, scheme: str | None = "http", poll: tuple[float, float] = RARELY
) -> AsyncIterator[Called]:
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        settings = settings_for(
            folder,
            file_roots=None,
            public_url=None if scheme is None else f"{scheme}://127.0.0.1:{port}",
            poll_seconds=poll,
            allow_private_urls=True,
            adopt=True,
        )
        app = build_http_app(settings, host="127.0.0.1", port=port)
        base_url = base_url_of(listener)
        async with (
            serving(app.asgi, listener),
            app.running(),
            Client(f"{base_url}/mcp") as client,
            httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=SOON) as http,
        ):
            yield Called(vendors, client, http)


@pytest.fixture(scope="module", autouse=True)
def keys(vendors: Vendors) -> Iterator[None]:
    """The vendors' keys and addresses, which a server takes from the environment and nowhere else."""
    with pytest.MonkeyPatch.context() as changed:
        for name, value in environment(vendors.base_url).items():
            changed.setenv(name, value)
        yield


@pytest.fixture(scope="module")
async def at(vendors: Vendors, keys: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Called]:
    async with serving_callbacks(tmp_path_factory.mktemp("called"), vendors) as opened:
        yield opened


@pytest.fixture(scope="module")
async def over_tls(vendors: Vendors, keys: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Called]:
    """One that believes to be behind a proxy with TLS, where the vendor's own calls go astray: there is none."""
    async with serving_callbacks(tmp_path_factory.mktemp("tls"), vendors, scheme="https") as opened:
        yield opened


def callback_of(order: Order) -> str:
    """The path of the address that the order asks the vendor to call."""
    if order.vendor == "vtrix":
        url = order.body["input"][0]["params"]["callback"]
    elif order.vendor == "piapi":
        url = order.body["webhook_endpoint"]
    else:
        url = order.body["webhookUrl" if order.vendor == "apiframe" else "callback"]
    assert "/webhooks/" in url
    found: str = httpx2.URL(url).path
    return found


def genuine(vendors: Vendors, order: Order) -> tuple[bytes, dict[str, str]]:
    """What the vendor sends when the order is done."""
    shop = vendors.sandbox.vendors[order.vendor]
    job = shop.tasks.get(order.id)
    assert job is not None
    assert job.webhook is not None
    push = shop.webhook_request(job, job.webhook, "completed", vendors.clock())
    return push.body, push.headers


# What is heeded


@pytest.mark.parametrize("vendor", ["legnext", "vtrix"])
async def test_a_vendors_callback_leads_to_one_question_and_the_end_of_the_task(at: Called, vendor: str) -> None:
    task, order = await at.order(vendor)
    assert task["status"] in ("queued", "running")
    at.vendors.finish()
    done = await at.finished(task)
    assert (done["status"], len(done["images"])) == ("succeeded", 4)
    assert at.vendors.polls(order.id) == 1
    await until(lambda: any(one.task == order.id for one in at.vendors.sandbox.deliveries()))
    (delivery,) = (one for one in at.vendors.sandbox.deliveries() if one.task == order.id)
    assert (delivery.outcome, delivery.detail) == ("delivered", "HTTP 200")


async def test_a_callback_in_the_orders_url_counts_however_the_vendor_signs_it(at: Called, tmp_path: Path) -> None:
    image = f"data:image/png;base64,{base64.b64encode(picture(tmp_path).read_bytes()).decode()}"
    task = await called(at.client, "outpaint", image=image, provider="fal", zoom=1.5, wait_seconds=0)
    assert task["status"] in ("queued", "running")
    at.vendors.finish()
    assert (await at.finished(task))["status"] == "succeeded"
    assert at.vendors.polls(f"{task['remote_id']}/status") == 1


async def test_a_task_that_fails_is_called_back_about_too(at: Called) -> None:
    at.vendors.fault("submit", "fail")
    task, order = await at.order()
    at.vendors.finish()
    assert (await at.finished(task))["status"] == "failed"
    assert at.vendors.polls(order.id) == 1


async def test_a_call_that_waits_is_answered_by_the_callback(at: Called) -> None:
    at.vendors.fault("submit", "fail")
    order = an_order()
    async with anyio.create_task_group() as calls:

        async def wait() -> None:
            with anyio.fail_after(SOON):
                assert (await called(at.client, "outpaint", **order, wait_seconds=45))["status"] == "failed"

        calls.start_soon(wait)
        await at.vendors.taken(order["prompt"])
        at.vendors.finish()


async def test_a_callers_own_address_goes_to_the_vendor_in_place_of_ours(vendors: Vendors, tmp_path: Path) -> None:
    async with serving_callbacks(tmp_path, vendors, poll=(0.05, 0.05)) as here:
        own = f"{vendors.base_url}/of-the-client?key=1"
        task, order = await here.order(webhook_url=own)
        assert order.body["callback"] == own
        vendors.finish()
        assert (await here.finished(task))["status"] == "succeeded", "and the vendor is asked as ever"


async def test_apiframe_is_given_an_https_address_only(at: Called, over_tls: Called) -> None:
    _, order = await at.order("apiframe")
    assert "webhookUrl" not in order.body
    _, order = await over_tls.order("apiframe", zoom=2)
    assert order.body["webhookUrl"].startswith("https://127.0.0.1:")


async def test_without_a_public_url_nobody_is_to_call_and_nobody_is_heard(vendors: Vendors, tmp_path: Path) -> None:
    async with serving_callbacks(tmp_path, vendors, scheme=None) as here:
        _, order = await here.order()
        assert "callback" not in order.body
        answer = await here.call("/webhooks/legnext/" + "0" * 64, json.dumps({"job_id": order.id}).encode())
        assert (answer.status_code, answer.text[:15]) == (404, "[unknown_task] ")


# What is not


FORGED = [
    ("{path}x", "{body}"),
    ("/webhooks/legnext/" + "0" * 64, "{body}"),
    ("/webhooks/legnext/%00", "{body}"),
    ("/webhooks/legnext/%ff%fe", "{body}"),
    ("/webhooks/legnext/" + "x" * 5000, "{body}"),
    ("{other}", "{body}"),
    ("/webhooks/vtrix/{token}", "{body}"),
    ("/webhooks/vtrix/{token}", '{{"id": "{id}"}}'),
    ("/webhooks/local/{token}", "{body}"),
    ("/webhooks/apimart/{token}", "{body}"),
    ("/webhooks/nobody/{token}", "{body}"),
    ("/webhooks/%2e%2e/{token}", "{body}"),
    ("{path}", '{{"job_id": "00000000-0000-4000-8000-000000000000"}}'),
    ("{path}", '{{"job_id": "{parent}"}}'),
    ("{path}", '{{"job_id": ["{id}"]}}'),
    ("{path}", '{{"job_id": "../{id}"}}'),
    ("{path}", '["{id}"]'),
    ("{path}", "{{}}"),
    ("{path}", ""),
    ("{path}", "job_id={id}"),
    ("{path}", "[" * 60_000),
]


async def test_whatever_is_forged_is_answered_alike_and_leads_to_nothing(at: Called) -> None:
    at.vendors.fault("submit", "fail", times=2)
    task, order = await at.order()
    _, another = await at.order()
    path, other = callback_of(order), callback_of(another)
    told = set()
    words = {"path": path, "other": other, "token": path.rpartition("/")[2], "id": order.id}
    words |= {"parent": seed_id("legnext", grid=True)}
    for where, what in FORGED:
        body = json.dumps({"job_id": order.id}) if what == "{body}" else what.format(**words)
        answer = await at.call(where.format(**words), body.encode())
        answer.headers.pop("date")
        told.add((answer.status_code, answer.text, str(sorted(answer.headers.items()))))
        assert answer.status_code == 404, (where, what)
    assert len({text for _, text, _ in told}) == 1
    assert len(told) == 1, "nothing tells what was wrong"
    assert await at.is_unnoticed(task)
    pushed, headers = genuine(at.vendors, order)
    assert (await at.call(path, pushed, **headers)).status_code == 200, "the genuine one is heeded"
    await until(lambda: at.vendors.polls(order.id) == 1)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_only_a_post_is_a_callback(at: Called, method: str) -> None:
    task, order = await at.order()
    body, headers = genuine(at.vendors, order)
    answer = await at.call(callback_of(order), body, method, **headers)
    assert answer.status_code == 405
    assert await at.is_unnoticed(task)


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_callback_that_is_too_long_is_not_read(at: Called, in_pieces: bool) -> None:
    task, order = await at.order()
    body = json.dumps({"job_id": order.id, "more": "x" * MAX_CALLBACK_BYTES}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    answer = await at.http.post(callback_of(order), content=pieces() if in_pieces else body)
    assert answer.status_code == 413
    assert await at.is_unnoticed(task)
    # Just short enough, the same is heeded.
    short = json.dumps({"job_id": order.id, "more": "x" * (MAX_CALLBACK_BYTES - 100)}).encode()
    assert (await at.call(callback_of(order), short)).status_code == 200
    await until(lambda: at.vendors.polls(order.id) == 1)


async def test_a_callback_that_names_another_host_is_not_let_in(at: Called) -> None:
    task, order = await at.order()
    body, headers = genuine(at.vendors, order)
    answer = await at.call(callback_of(order), body, **headers, host="rebound.example")
    assert answer.status_code == 421
    assert "OUTPAINT_ALLOWED_HOSTS" in answer.text
    assert await at.is_unnoticed(task)


async def test_apiframes_signature_must_be_right_besides(over_tls: Called) -> None:
    task, order = await over_tls.order("apiframe")
    path = callback_of(order)
    body, headers = genuine(over_tls.vendors, order)
    signature = headers.pop("x-webhook-signature")
    wrong = [None, "", "sha256=", "sha256=" + "0" * 64, signature[:-1], signature.replace("sha256=", "sha1=")]
    for sent in wrong:
        given = headers if sent is None else {**headers, "x-webhook-signature": sent}
        assert (await over_tls.call(path, body, **given)).status_code == 404, sent
    changed = body.replace(b"completed", b"failed")
    assert (await over_tls.call(path, changed, **headers, **{"x-webhook-signature": signature})).status_code == 404
    wrong_path = path[:-1] + ("0" if path[-1] != "0" else "1")
    assert (await over_tls.call(wrong_path, body, **headers, **{"x-webhook-signature": signature})).status_code == 404
    assert await over_tls.is_unnoticed(task)
    assert (await over_tls.call(path, body, **headers, **{"x-webhook-signature": signature})).status_code == 200
    await until(lambda: over_tls.vendors.polls(order.id) == 1)


# Too many


async def test_a_flood_of_a_genuine_callback_leads_to_a_few_questions(at: Called) -> None:
    _, order = await at.order()
    body, headers = genuine(at.vendors, order)
    path = callback_of(order)
    statuses: list[int] = []
    began = time.monotonic()

    async def send(count: int) -> None:
        for _ in range(count):
            statuses.append((await at.call(path, body, **headers)).status_code)

    async with anyio.create_task_group() as senders:
        for _ in range(20):
            senders.start_soon(send, 50)
    await until(lambda: at.vendors.polls(order.id) >= 1)
    took = time.monotonic() - began
    assert statuses == [200] * 1000
    assert at.vendors.polls(order.id) <= took + 2, "one in a second"


async def test_a_callback_that_is_replayed_after_the_end_asks_nobody(at: Called) -> None:
    at.vendors.fault("submit", "fail")
    task, order = await at.order()
    at.vendors.finish()
    await at.finished(task)
    body, headers = genuine(at.vendors, order)
    for _ in range(20):
        assert (await at.call(callback_of(order), body, **headers)).status_code == 200
    assert at.vendors.polls(order.id) == 1


# After a restart, and what is told


async def test_a_call_is_heeded_after_a_restart_too(vendors: Vendors, tmp_path: Path) -> None:
    vendors.fault("submit", "fail")
    async with serving_callbacks(tmp_path, vendors, poll=RARELY) as before:
        task, order = await before.order()
    body, headers = genuine(vendors, order)
    vendors.finish()
    async with serving_callbacks(tmp_path, vendors, poll=RARELY) as after:
        assert (await after.call(f"{callback_of(order)}0", body, **headers)).status_code == 404
        assert (await after.call(callback_of(order), body, **headers)).status_code == 200
        assert (await after.finished(task))["status"] == "failed"


async def test_nothing_that_is_logged_stored_or_told_holds_the_token(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_vendors() as vendors:
        environment = variables(
            tmp_path, vendors, OUTPAINT_LOG_LEVEL="DEBUG", OUTPAINT_POLL_SECONDS=",".join(map(str, RARELY))
        )
        public = ("--public-url", f"http://127.0.0.1:{port}")
        async with http_server(environment, *public, port=port) as server, server.client() as client:
            shown = [await client.call_tool("outpaint", {**an_order(), "wait_seconds": 0})]
            (order,) = vendors.sandbox.orders("legnext")
            task_id = shown[0].structured_content["id"]
            path = callback_of(order)
            token = path.rpartition("/")[2]
            async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as http:
                for wrong in (f"{path}0", f"/webhooks/vtrix/{token}", f"/webhooks/{token}/{token}"):
                    assert (await http.post(wrong, json={"job_id": order.id})).status_code == 404
            vendors.finish()
            with anyio.fail_after(SOON):
                shown.append(await client.call_tool("get_task", {"task_id": task_id, "wait_seconds": 45}))
            assert "succeeded" in text_of(shown[1])
            resources = [await client.read_resource(uri) for uri in ("outpaint://tasks", f"outpaint://tasks/{task_id}")]
            server.signal()
            assert await server.exit_code() == 0
        assert b"DEBUG" in server.log
        stored = b"".join([await path.read_bytes() async for path in anyio.Path(tmp_path).rglob("*.db*")])
        told = "".join(one.model_dump_json() for one in [*shown, *resources])
        assert token.encode() not in server.log
        assert token.encode() not in stored
        assert order.id.encode() in stored
        assert token not in told
