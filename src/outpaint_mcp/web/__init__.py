"""HTTP: the application that serves MCP, authentication, vendors' callbacks and metrics."""
