"""The conformance suites' general scenarios and the Inspector against the program as users run it.

The other scenarios want tools, resources and prompts of the suites' own, which test_fixtures mounts.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..node_tools import needs_node, node_command
from ..serving import picture
from ..transports.processes import HttpServer, http_server
from .suites import failures

pytestmark = needs_node

GENERAL = {
    "released": {
        "server-initialize",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    },
    "next": {
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "sep-2164-resource-not-found",
        "input-required-result-unsupported-methods",
    },
    "modern": {
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "sep-2164-resource-not-found",
        "input-required-result-unsupported-methods",
    },
}


def environment_of(folder: Path) -> dict[str, str]:
    """The server's, with its data and the images that it may read in the folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    return {**inherited, "OUTPAINT_DATA_DIR": str(folder / "data"), "OUTPAINT_FILE_ROOTS": str(folder)}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For the whole module, so that the server can outlive a test."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpServer]:
    """One for all suites, each of which leaves as many sessions open as a client may have."""
    environment = environment_of(tmp_path_factory.mktemp("server"))
    async with http_server({**environment, "OUTPAINT_MAX_SESSIONS": "1000"}) as server:
        yield server


@pytest.mark.parametrize("suite", GENERAL)
async def test_the_general_scenarios_pass(server: HttpServer, suite: str, tmp_path: Path) -> None:
    found = await failures(suite, server.paths["/mcp"], tmp_path / "reports")
    assert {name: found.get(name, ["was not run"]) for name in GENERAL[suite]} == {name: [] for name in GENERAL[suite]}


# The Inspector


@pytest.fixture
def target(request: pytest.FixtureRequest, door: str, tmp_path: Path) -> list[str]:
    """What the Inspector is to connect to: a server's URL, or a command and its environment."""
    if door == "http":
        server: HttpServer = request.getfixturevalue("server")
        return [server.paths["/mcp"]]
    own = environment_of(tmp_path)
    given = (part for one in ("OUTPAINT_DATA_DIR", "OUTPAINT_FILE_ROOTS") for part in ("-e", f"{one}={own[one]}"))
    return [sys.executable, "-m", "outpaint_mcp", *given]


async def inspected(target: list[str], protocol: str, folder: Path, *arguments: str) -> tuple[int, Any, str]:
    """The Inspector's exit code, the JSON that it printed, and what it said besides."""
    own = environment_of(folder)
    # Several connect at once, each a process of Node with a server: more than its 15 s on a busy machine.
    options = ("--protocol-era", protocol, "--connect-timeout", "60000")
    command = [*node_command("mcp-inspector"), "--cli", *target, *options, *arguments]
    ended = await anyio.run_process(command, check=False, env={**own, "HOME": str(folder)})
    printed = ended.stdout.decode()
    return ended.returncode, json.loads(printed) if printed.strip() else None, ended.stderr.decode()


# Each call of the Inspector is a process of Node: each door and each protocol is tried once, not all pairs of them.
@pytest.mark.parametrize(("door", "protocol"), [("stdio", "modern"), ("http", "legacy")])
async def test_the_inspector_finds_no_error_in_the_schemas_and_reads_what_there_is(
    target: list[str], door: str, protocol: str, tmp_path: Path
) -> None:
    async def run(*arguments: str) -> tuple[int, Any, str]:
        return await inspected(target, protocol, tmp_path, *arguments)

    code, listed, said = await run("--method", "tools/list", "--strict")
    assert (code, "0 errors" in said) == (0, True), said
    assert sorted(tool["name"] for tool in listed["tools"]) == ["get_task", "list_providers", "outpaint"]

    given: Mapping[str, tuple[str, ...]] = {
        "resources/list": (),
        "resources/read": ("--uri", "outpaint://providers"),
        "prompts/list": (),
        "prompts/get": ("--prompt-name", "zoom_out", "--prompt-args", "image=https://example.com/a.png"),
    }

    async def reads(method: str, arguments: tuple[str, ...]) -> None:
        code, found, said = await run("--method", method, *arguments)
        assert (code, bool(found)) == (0, True), f"{method}: {said}"

    async with anyio.create_task_group() as calls:
        for method, arguments in given.items():
            calls.start_soon(reads, method, arguments)

    image = picture(tmp_path) if door == "stdio" else "outpaint://tasks/op-none/images/1"
    order = ("--method", "tools/call", "--tool-name", "outpaint", "--tool-arg", f"image={image}", "zoom=1.2")
    code, result, said = await run(*order)
    if door == "stdio":
        assert (code, result["structuredContent"]["status"]) == (0, "succeeded"), said
    else:
        assert (code, result["isError"]) == (5, True), "the Inspector's code for a tool's error"
