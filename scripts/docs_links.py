"""A hook of MkDocs: a link to a file outside docs/, which works on GitHub as it is, leads to the repository."""

import re
from pathlib import Path
from typing import Any

REPOSITORY = "https://github.com/outpaint-mcp/outpaint-mcp"
PROJECT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _LINK.sub(_in_repository, markdown)


def _in_repository(link: re.Match[str]) -> str:
    # What does not exist stays as it is, and fails the build.
    return f"{REPOSITORY}/blob/main/{link[1]}" if (PROJECT / link[1]).exists() else link[0]
