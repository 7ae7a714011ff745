"""The SDK is used through its public names only: what begins with an underscore may change in any release."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import outpaint_mcp

SOURCE = Path(outpaint_mcp.__file__).parent
SDK = ("mcp", "mcp_types")
HIGH_LEVEL = ("mcpserver", "MCPServer")
"""The SDK's high-level server: this program is built on the low-level one and needs nothing of it."""
DOCUMENTED = {("os", "_exit")}
"""Public all the same."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_uses(source: str) -> Iterator[str]:
    """Imports of the SDK's private and high-level parts, and private attributes of any object but `self` and `cls`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                imported = [f"{module}.{name.name}" for name in names]
            case ast.Attribute(value=ast.Name(id=owner), attr=attr) if owner in ("self", "cls") or (
                (owner, attr) in DOCUMENTED
            ):
                continue
            case ast.Attribute(attr=attr) if is_private(attr) or attr in HIGH_LEVEL:
                yield f"line {node.lineno}: .{attr}"
                continue
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(attr)), *_]
            ):
                if is_private(attr):
                    yield f"line {node.lineno}: {attr!r}"
                continue
            case _:
                continue
        for path in imported:
            parts = path.split(".")
            if parts[0] in SDK and any(is_private(part) or part in HIGH_LEVEL for part in parts):
                yield f"line {node.lineno}: {path}"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_private_is_used(path: Path) -> None:
    assert list(private_uses(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import mcp.server._otel",
        "from mcp.server._otel import OpenTelemetryMiddleware",
        "from mcp.shared import _compat",
        "from mcp_types._types import Tool",
        "import mcp.server.mcpserver",
        "from mcp.server import mcpserver",
        "from mcp.server import MCPServer",
        "context = mcp.server.mcpserver",
        "from mcp.server.mcpserver.tools import Tool",
        "inner = server._lowlevel_server",
        "server.inner._request_handlers.clear()",
        "def f(self): return self._server._session_manager",
        "getattr(server, '_lowlevel_server')",
    ],
)
def test_each_way_of_using_something_private_is_found(source: str) -> None:
    assert len(list(private_uses(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from mcp.server import Server",
        "from mcp_types.version import MODERN_PROTOCOL_VERSIONS",
        "def f(self): self._own = other.public",
        "print(thing.__name__)",
        "os._exit(1)",
        "text = 'server._lowlevel_server'  # mcp.server._otel",
        "from outpaint_mcp.server.tools import _progress",
    ],
)
def test_what_is_public_or_our_own_is_not_found(source: str) -> None:
    assert list(private_uses(source)) == []
