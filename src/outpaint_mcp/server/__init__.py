"""The MCP server: everything that knows the protocol."""
