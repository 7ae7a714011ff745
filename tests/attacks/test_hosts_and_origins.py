"""A web page that a browser shows cannot reach the server, under whatever name; nor can the network unasked."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..serving import settings_for
from ..transports.processes import HttpServer, http_server
from .target import Target, attacked, head, status_of, tokens_of

PUBLIC = "https://outpaint.example/behind"
DOORS = ("loopback", "loopback with tokens", "all addresses with tokens", "public")
PATHS = (
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("DELETE", "/mcp"),
    ("OPTIONS", "/mcp"),
    ("GET", "/sse"),
    ("POST", "/messages/?session_id=00000000000000000000000000000000"),
    ("POST", "/webhooks/legnext/token"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ("GET", "/nothing/here"),
    ("GET", "//mcp"),
)
BAD_HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example:{port}",
    "evillocalhost",
    "127.0.0.2",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "169.254.169.254",
    "evil@127.0.0.1:{port}",
    "127.1:{port}",
    "2130706433",
    "outpaint.example.evil.example",
    "outpaint.example@evil.example",
    "LOCALHOST.",
    "*",
    "127.0.0.10",
)
BAD_ORIGINS = (
    "https://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "https://outpaint.example.evil.example",
    "http://outpaint.example",
    "null",
    "file://",
    "http://127.0.0.2",
    "http://0.0.0.0:{port}",
    "http://evil@127.0.0.1",
    "chrome-extension://abcdefghijklmnop",
    "127.0.0.1",
    "*",
)


async def answer_to(target: Target, method: str, path: str, token: str | None, **headers: str) -> int:
    sent = {"Host": f"127.0.0.1:{target.port}", "Connection": "close", "Content-Length": "0", **headers}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    lines = [f"{name}: {value.format(port=target.port)}" for name, value in sent.items()]
    with anyio.fail_after(10):
        return status_of(await first_line(target, head(method, path, *lines)))


async def first_line(target: Target, request: bytes) -> bytes:
    """The beginning of an answer that may have no end."""
    async with target.socket() as stream:
        await stream.send(request)
        received = b""
        while b"\r\n" not in received:
            received += await stream.receive()
        return received


@pytest.fixture(scope="module", params=DOORS)
async def reached(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[str, Target, str | None]]:
    """A server behind one of the doors, and a token for it."""
    door: str = request.param
    folder = tmp_path_factory.mktemp("door")
    changes: dict[str, Any] = {}
    token = None
    if door != "loopback":
        changes["tokens_file"], (token,) = tokens_of(folder, "ann")
    if door == "public":
        changes["public_url"] = PUBLIC
    host = "0.0.0.0" if door.startswith("all") else "127.0.0.1"  # noqa: S104 (with tokens)
    async with attacked(settings_for(folder, **changes), host=host) as target:
        yield door, target, token


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_host_that_is_not_this_servers_is_refused_on_every_path(
    reached: tuple[str, Target, str | None], method: str, path: str
) -> None:
    _, target, token = reached
    for host in BAD_HOSTS:
        assert await answer_to(target, method, path, token, Host=host) == 421, host


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_web_page_from_elsewhere_is_refused_on_every_path(
    reached: tuple[str, Target, str | None], method: str, path: str
) -> None:
    _, target, token = reached
    for origin in BAD_ORIGINS:
        assert await answer_to(target, method, path, token, Origin=origin) == 403, origin


async def test_the_hosts_and_origins_of_the_server_itself_pass(reached: tuple[str, Target, str | None]) -> None:
    door, target, token = reached
    hosts = ["127.0.0.1:{port}", "localhost:{port}", "localhost", "[::1]:{port}"]
    origins = ["http://127.0.0.1:{port}", "http://localhost:5173", "https://localhost"]
    if door == "public":
        hosts.append("outpaint.example")
        origins.append("https://outpaint.example")
    for host in hosts:
        assert await answer_to(target, "GET", "/healthz", None, Host=host) == 200
        assert (await target.ask(token=token, Host=host.format(port=target.port))).status == 200
    for origin in origins:
        assert await answer_to(target, "GET", "/healthz", None, Origin=origin) == 200
        assert (await target.ask(token=token, Origin=origin.format(port=target.port))).status == 200


async def test_the_public_name_is_no_name_of_a_server_that_has_none(reached: tuple[str, Target, str | None]) -> None:
    door, target, token = reached
    allowed = door == "public"
    assert await answer_to(target, "GET", "/healthz", token, Host="outpaint.example") == (200 if allowed else 421)
    assert await answer_to(target, "GET", "/healthz", token, Origin="https://outpaint.example") == (
        200 if allowed else 403
    )


async def test_what_a_proxy_would_say_about_the_host_makes_no_difference(
    reached: tuple[str, Target, str | None],
) -> None:
    _, target, token = reached
    said = {"X-Forwarded-Host": "127.0.0.1", "Forwarded": "host=127.0.0.1", "X-Original-Host": "localhost"}
    assert await answer_to(target, "GET", "/healthz", token, Host="evil.example", **said) == 421


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 400),
        (("Host: 127.0.0.1", "Host: evil.example"), 400),
        (("Host: evil.example", "Host: 127.0.0.1"), 400),
        (("Host:",), 421),
        (("Host: 127.0.0.1 evil.example",), 421),
        ((" Host: 127.0.0.1",), 400),
        (("Host : 127.0.0.1",), 400),
    ],
)
async def test_a_host_that_is_missing_or_said_twice_is_refused(
    reached: tuple[str, Target, str | None], lines: tuple[str, ...], status: int
) -> None:
    _, target, _ = reached
    answer = await first_line(target, head("GET", "/healthz", "Connection: close", *lines))
    assert status_of(answer) == status
    old = b"GET /healthz HTTP/1.0\r\n\r\n"
    assert status_of(await first_line(target, old)) == 421


async def test_further_hosts_and_origins_are_those_that_the_operator_names(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path, allowed_hosts=("inner.example", "other.example:*"), allowed_origins=("https://page.example",)
    )
    async with attacked(settings) as target:
        for host, status in (
            ("inner.example", 200),
            ("inner.example:80", 421),
            ("other.example:1", 200),
            ("other.example", 421),
            ("evil.example", 421),
        ):
            assert await answer_to(target, "GET", "/healthz", None, Host=host) == status, host
        assert await answer_to(target, "GET", "/healthz", None, Origin="https://page.example") == 200
        assert await answer_to(target, "GET", "/healthz", None, Origin="https://page.example.evil.example") == 403


# Listening beyond this machine


def environment(folder: Path, **changes: str) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    return {**inherited, "OUTPAINT_DATA_DIR": str(folder / "data"), **changes}


async def healthz(server: HttpServer) -> int:
    port = int(server.base_url.rpartition(":")[2])
    return await answer_to(Target(port), "GET", "/healthz", None)


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_the_network_is_let_in_by_mistake_by_no_command(tmp_path: Path, transport: str) -> None:
    command = [sys.executable, "-m", "outpaint_mcp", "serve", "--transport", transport, "--port", "0", "--host"]
    with anyio.fail_after(30):
        done = await anyio.run_process([*command, "0.0.0.0"], env=environment(tmp_path), check=False)  # noqa: S104
    assert done.returncode == 2
    assert done.stderr.decode().startswith("[configuration] On 0.0.0.0 anybody ")
    assert "OUTPAINT_TOKENS_FILE" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


async def test_a_file_without_tokens_is_no_reason_to_let_the_network_in_unasked(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# nobody yet\n")
    settings = settings_for(tmp_path, tokens_file=tmp_path / "tokens")
    async with attacked(settings, host="0.0.0.0") as target:  # noqa: S104
        assert (await target.ask()).status == 401
        assert (await target.ask(token="nobody")).status == 401


@pytest.mark.parametrize("how", ["insecure", "tokens"])
async def test_the_network_is_let_in_on_request(tmp_path: Path, how: str) -> None:
    changes, options, token = {}, ["--host", "0.0.0.0"], None  # noqa: S104
    if how == "tokens":
        file, (token,) = tokens_of(tmp_path, "ann")
        changes["OUTPAINT_TOKENS_FILE"] = str(file)
    else:
        options.append("--insecure")
    async with http_server(environment(tmp_path, **changes), *options) as server:
        target = Target(int(server.base_url.rpartition(":")[2]))
        assert await healthz(server) == 200
        assert (await target.ask()).status == (200 if how == "insecure" else 401)
        assert (await target.ask(token=token)).status == 200
        assert await answer_to(target, "GET", "/healthz", token, Host="evil.example") == 421, "even so"
