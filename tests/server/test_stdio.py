"""The built wheel over real stdio."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.server.stdio import serve_streams
from outpaint_mcp.tasks.service import Service

from ..serving import ERAS, picture, server_for, settings_for

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run(build, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> StdioServerParameters:
    """The wheel by itself in a folder, its dependencies from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OUTPAINT_DATA_DIR": str(folder / "data")}
    where = [sys.executable, "-c", "import outpaint_mcp; print(outpaint_mcp.__file__)"]
    found = subprocess.run(where, env=environment, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(folder)), "the wheel is what is tested, not the sources"
    return StdioServerParameters(command=sys.executable, args=["-m", "outpaint_mcp"], env=environment, cwd=folder)


@pytest.mark.parametrize("era", ERAS)
async def test_the_wheel_outpaints_over_stdio(installed: StdioServerParameters, tmp_path: Path, era: str) -> None:
    server = installed.model_copy(update={"env": {**(installed.env or {}), "OUTPAINT_FILE_ROOTS": str(tmp_path)}})
    order = {"image": str(picture(tmp_path, name=f"{era}.png")), "zoom": 1.5, "repeat": True, "wait_seconds": 45}
    async with Client(stdio_client(server), mode=era) as client:
        assert len((await client.list_tools()).tools) == 3
        task = (await client.call_tool("outpaint", order)).structured_content
        (contents,) = (await client.read_resource(task["images"][0]["resource_uri"])).contents
    assert task["status"] == "succeeded"
    assert contents.mime_type == "image/png"


def initialize(server: StdioServerParameters) -> list[str]:
    """What the server writes to stdout for a handshake and `tools/list`, and then the end of its stdin."""
    requests: list[dict[str, Any]] = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    with started(server) as process:
        lines = [answer for request in requests if (answer := ask(process, json.dumps(request)))]
        rest, _ = process.communicate(timeout=30)
        return [*lines, *rest.splitlines()]


@contextlib.contextmanager
def started(server: StdioServerParameters) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [server.command, *server.args],
        env=server.env,
        cwd=server.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: "subprocess.Popen[str]", line: str) -> str:
    """Send a line; what comes back, unless it is a notification."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return "" if '"notifications/' in line else process.stdout.readline()


def test_stdout_holds_the_protocol_and_nothing_else(installed: StdioServerParameters) -> None:
    answers = [json.loads(line) for line in initialize(installed)]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["result"]["serverInfo"]["name"] == "outpaint-mcp"


@pytest.mark.skipif("OUTPAINT_TEST_EVERYTHING" not in os.environ, reason="fetches the dependencies: only in .ci/run")
def test_the_wheel_in_a_clean_environment_answers_initialize(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", str(wheel)], check=True)
    environment = {**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path / "data")}
    command = str(tmp_path / "clean" / "bin" / "outpaint-mcp")
    answers = initialize(StdioServerParameters(command=command, args=[], env=environment, cwd=tmp_path))
    assert json.loads(answers[0])["result"]["serverInfo"]["name"] == "outpaint-mcp"


HELLO = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
)
INITIALIZED = '{"jsonrpc": "2.0", "method": "notifications/initialized"}'


def test_lines_that_are_no_requests_are_answered_and_the_next_ones_too(installed: StdioServerParameters) -> None:
    lines: list[tuple[str, int, int | str | None]] = [
        ('{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"outpaint \\ud83d"}}', -32700, 7),
        ("{bad", -32700, None),
        ('{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{"n":' + "9" * 5000 + "}}", -32700, None),
        ("[" * 20_000, -32700, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', -32600, None),
        ('{"jsonrpc":"2.0","id":"a","method":5}', -32600, "a"),
        ('{"jsonrpc":"1.0","id":8,"method":"tools/list"}', -32600, 8),
    ]
    with started(installed) as process:
        ask(process, HELLO)
        ask(process, INITIALIZED)
        for line, code, id_ in lines:
            answer = json.loads(ask(process, line))
            assert (answer["error"]["code"], answer["id"]) == (code, id_), line
            assert json.loads(ask(process, '{"jsonrpc":"2.0","id":"b","method":"ping"}'))["id"] == "b", line


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("opened", [True, False])
def test_a_signal_ends_it_though_stdin_stays_open(
    installed: StdioServerParameters, number: signal.Signals, opened: bool
) -> None:
    with started(installed) as process:
        ask(process, HELLO)
        ask(process, INITIALIZED)
        if opened:
            request = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_providers"}}
            assert "legnext" in ask(process, json.dumps(request))
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


async def test_what_goes_wrong_while_the_service_is_opened_is_told_to_whoever_calls() -> None:
    @contextlib.asynccontextmanager
    async def broken() -> AsyncIterator[Service]:
        raise OverflowError("the key is sk-secret")
        yield

    late = LazyService(broken)
    async with late.running():
        with pytest.raises(ConfigurationError, match="OverflowError") as told:
            await late.get()
    assert "sk-secret" not in str(told.value)


async def test_ending_it_waits_until_the_service_has_closed(tmp_path: Path) -> None:
    closed = False

    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[Service]:
        nonlocal closed
        async with open_service(settings_for(tmp_path)) as service:
            yield service
        await anyio.lowlevel.checkpoint()
        closed = True

    late = LazyService(slow)
    async with late.running():
        await late.get()
        await late.end()
        assert closed
        with pytest.raises(RuntimeError, match="ended"):
            await late.get()


async def test_a_client_that_discovers_first_and_shakes_hands_then_is_served(tmp_path: Path) -> None:
    server = server_for(settings_for(tmp_path))
    to_server, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](10)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage](10)

    async def ask(method: str, **params: Any) -> dict[str, Any]:
        request = JSONRPCRequest(jsonrpc="2.0", id=method, method=method, params=params)
        await to_server.send(SessionMessage(request))
        with anyio.fail_after(10):
            answer = (await from_server.receive()).message
        assert isinstance(answer, JSONRPCResponse), answer
        assert answer.id == method
        return answer.result

    modern = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with from_server, from_client, anyio.create_task_group() as serving:
        serving.start_soon(serve_streams, server, from_client, to_client)
        async with to_server:
            discovered = await ask("server/discover", _meta=modern)
            assert "2026-07-28" in discovered["supportedVersions"]
            hello = await ask(
                "initialize",
                protocolVersion="2025-06-18",
                capabilities={},
                clientInfo={"name": "test", "version": "1"},
            )
            assert hello["protocolVersion"] == "2025-06-18"
            notification = JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized")
            await to_server.send(SessionMessage(notification))
            assert len((await ask("tools/list"))["tools"]) == 3
