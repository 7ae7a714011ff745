import base64
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from outpaint_mcp.cli.clients import CLIENTS, Machine
from outpaint_mcp.cli.install import SERVER_NAME, plan_change
from outpaint_mcp.settings import child_environment

from .serving import picture

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "examples/README.md",
    *(f"docs/{one.name}" for one in DOCS.glob("*.md")),
)
SCRIPT = runpy.run_path(str(PROJECT / "scripts" / "readme.py"))


@pytest.mark.parametrize("part", SCRIPT["PARTS"])
def test_the_generated_tables_are_up_to_date(part: str) -> None:
    text = (PROJECT / SCRIPT["PARTS"][part][0]).read_text(encoding="utf-8")
    assert SCRIPT["generated"](part, text) == text, "run .venv/bin/python scripts/readme.py"


def test_the_variables_in_server_json_are_up_to_date() -> None:
    text = (PROJECT / "server.json").read_text(encoding="utf-8")
    assert SCRIPT["server_json"](text) == text, "run .venv/bin/python scripts/readme.py"


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    lines = document.read_text(encoding="utf-8").splitlines()
    return {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines if line.startswith("#")
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_and_heading_that_the_documents_link_to_exists(name: str) -> None:
    document = PROJECT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), target
        assert not heading or heading in headings(linked), target


def snippet(containing: str) -> str:
    """The Python example of docs/embedding.md that holds these words."""
    page = (DOCS / "embedding.md").read_text(encoding="utf-8")
    (found,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if containing in one)
    return str(found)


def test_the_example_of_the_service_extends_an_image(tmp_path: Path) -> None:
    picture(tmp_path, name="photo.jpg")
    environment = {**child_environment(), "OUTPAINT_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-c", snippet("open_service")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "succeeded" in done.stdout, done.stderr


def test_each_install_link_says_what_install_would_write_for_the_released_package(tmp_path: Path) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    links = dict(re.findall(r"\[Add to ([\w ]+)\]\(([^)]+)\)", text))
    command = ["uvx", "outpaint-mcp"]

    def written(client: str) -> Any:
        plan = plan_change(client, Machine(tmp_path, "linux"), command)
        return json.loads(plan.after or b"")[CLIENTS[client].key][SERVER_NAME]

    cursor = parse_qs(urlsplit(links["Cursor"]).query)
    assert cursor["name"] == [SERVER_NAME]
    assert json.loads(base64.b64decode(cursor["config"][0], validate=True)) == written("cursor")
    (url,) = parse_qs(urlsplit(links["VS Code"]).query)["url"]
    scheme, _, entry = url.partition("?")
    assert scheme == "vscode:mcp/install"
    assert {"type": "stdio", **json.loads(unquote(entry))} == {"name": SERVER_NAME, **written("vscode")}


def test_the_example_for_hosts_names_the_installed_command() -> None:
    example = json.loads((PROJECT / "mcp.json.example").read_text(encoding="utf-8"))
    assert [server["command"] for server in example["mcpServers"].values()] == ["outpaint-mcp"]
    assert 'outpaint-mcp = "outpaint_mcp.cli.main:main"' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
