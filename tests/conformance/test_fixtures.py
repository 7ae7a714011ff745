"""The whole conformance suites against our server with their fixtures mounted on it.

`expected_failures/SUITE.toml` lists what does not pass, each with its reason.
"""

import os
import sys
import tomllib
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from ..node_tools import needs_node
from ..serving import ERAS
from ..tasks_client import TasksClient
from ..transports.processes import text_of
from .fixture_server import fixture_url
from .suites import SUITES, failures

EXPECTED = Path(__file__).parent / "expected_failures"
PROJECT = Path(__file__).parents[2]


@needs_node
@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("suite", SUITES)
async def test_every_scenario_passes_but_those_that_are_expected_to_fail(suite: str, tmp_path: Path) -> None:
    async with fixture_url(tmp_path) as url:
        found = await failures(suite, url, tmp_path / "reports")
    expected = tomllib.loads((EXPECTED / f"{suite}.toml").read_text(encoding="utf-8"))
    failed = {name: checks for name, checks in found.items() if checks}
    assert {name: checks for name, checks in failed.items() if name not in expected} == {}
    assert sorted(set(expected) - set(failed)) == [], "these pass now: take them from the list"
    assert all(isinstance(reason, str) and reason for reason in expected.values())
    assert len(found) > 30, "the suite was not run"


@pytest.mark.parametrize("era", ERAS)
async def test_the_fixtures_are_served_over_stdio_too(era: str, tmp_path: Path) -> None:
    command = ["-m", "tests.conformance.fixture_server"]
    environment = {**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path)}
    program = StdioServerParameters(command=sys.executable, args=command, env=environment, cwd=PROJECT)
    async with Client(stdio_client(program), mode=era, extensions=[TasksClient()]) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"outpaint", "greet", "test_simple_text"} <= names
        assert text_of(await client.call_tool("greet", {"name": "Ann"})) == "Hello, Ann!"
        # A handle in the modern protocol, which the client follows; else the tool's result after a while.
        assert text_of(await client.call_tool("slow_compute", {"seconds": 0.2})) == "Computed."
