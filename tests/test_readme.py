import json
import re
import runpy
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_generated_tables_are_up_to_date() -> None:
    generated = runpy.run_path(str(PROJECT / "scripts" / "readme.py"))["generated"]
    assert generated(README) == README, "run .venv/bin/python scripts/readme.py"


def test_every_file_and_heading_that_the_documents_link_to_exists() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"):
        document = PROJECT / name
        text = document.read_text(encoding="utf-8")
        headings = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines()}
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in headings, target
            elif "://" not in target:
                assert (document.parent / target.partition("#")[0]).exists(), target


def test_the_example_for_hosts_names_the_installed_command() -> None:
    example = json.loads((PROJECT / "mcp.json.example").read_text(encoding="utf-8"))
    assert [server["command"] for server in example["mcpServers"].values()] == ["outpaint-mcp"]
    assert 'outpaint-mcp = "outpaint_mcp.cli.main:main"' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
