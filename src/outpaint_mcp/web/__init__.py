"""What is served over HTTP besides MCP itself: the application, tokens, callbacks, metrics."""
