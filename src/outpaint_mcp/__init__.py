"""outpaint-mcp: an MCP server that extends pictures beyond their borders."""

__version__ = "0.1.0"
