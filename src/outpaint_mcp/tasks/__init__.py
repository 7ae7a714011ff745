"""Use cases and the life of a task."""
