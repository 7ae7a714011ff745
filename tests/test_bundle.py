"""The MCP bundle: valid, whole, and what a host makes of it starts the server. `server.json` is valid too."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from .node_tools import NODE, NODE_MODULES, needs_node

PROJECT = Path(__file__).resolve().parent.parent
CONFIG = """
import { getMcpConfigForManifest } from %s;
const { manifest, extensionPath, userConfig } = JSON.parse(process.argv[1]);
const systemDirs = { HOME: "/home/user", DESKTOP: "", DOCUMENTS: "", DOWNLOADS: "" };
const config = await getMcpConfigForManifest({ manifest, extensionPath, systemDirs, userConfig, pathSeparator: "/" });
console.log(JSON.stringify(config));
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle."""
    packed = tmp_path_factory.mktemp("packed") / "outpaint-mcp.mcpb"
    made = subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / "bundle.py"), str(packed)],
        env={**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    folder = packed.parent / "unpacked"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder


def as_a_host_reads(bundle: Path, **user_config: str) -> dict[str, Any]:
    """What the bundles' own library makes of the manifest and of what a user typed into the form."""
    given = {
        "manifest": json.loads((bundle / "manifest.json").read_text()),
        "extensionPath": str(bundle),
        "userConfig": user_config,
    }
    code = CONFIG % json.dumps((NODE_MODULES / "@anthropic-ai" / "mcpb" / "dist" / "index.js").as_uri())
    command = [str(NODE), "--input-type=module", "-e", code, json.dumps(given)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    config: dict[str, Any] = json.loads(found.stdout)
    return config


@needs_node
def test_a_bundle_asks_for_every_key_and_requires_none(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["manifest_version"], manifest["server"]["type"]) == ("0.4", "uv")
    variables = json.loads((PROJECT / "server.json").read_text())["packages"][0]["environmentVariables"]
    secret = {one["name"].lower() for one in variables if one.get("isSecret")}
    assert {name for name, one in manifest["user_config"].items() if one.get("sensitive")} == secret
    assert not any(one["required"] for one in manifest["user_config"].values())
    assert (bundle / manifest["server"]["entry_point"]).is_file()
    assert (bundle / "src" / "outpaint_mcp" / "server" / "view.html").is_file()


@needs_node
async def test_the_server_of_a_bundle_starts_with_what_the_form_gives(bundle: Path, tmp_path: Path) -> None:
    config = as_a_host_reads(bundle, legnext_api_key="leg-0123456789abcdef", outpaint_data_dir=str(tmp_path))
    assert (config["command"], config["args"]) == ("uv", ["run", "--directory", str(bundle), "outpaint-mcp"])
    assert not any("${" in value for value in config["env"].values()), "nothing is left for the server to puzzle over"
    # uv would install what pyproject.toml names; here that is there already, and the code is the bundle's.
    environment = {**config["env"], "PATH": os.environ["PATH"], "PYTHONPATH": str(bundle / "src")}
    server = StdioServerParameters(command=sys.executable, args=["-m", "outpaint_mcp"], env=environment, cwd=tmp_path)
    async with Client(stdio_client(server)) as client:
        listed = (await client.call_tool("list_providers", {})).structured_content["providers"]
        tools = {tool.name for tool in (await client.list_tools()).tools}
    assert tools == {one["name"] for one in json.loads((bundle / "manifest.json").read_text())["tools"]}
    assert {one["name"] for one in listed if one["configured"]} == {"legnext", "local"}


def test_server_json_is_valid_by_the_registrys_schema() -> None:
    server = json.loads((PROJECT / "server.json").read_text())
    version = server["$schema"].split("/")[-2]
    # The schema itself is not to be fetched: skillsaw ships the released ones.
    shipped = files(f"skillsaw.schemas.mcp_registry.v{version.replace('-', '_')}") / "server.schema.json"
    schema = json.loads(shipped.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    errors = [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(server)]
    assert errors == []
