"""The MCP server: tools, resources, subscriptions, rate limits and stdio."""
