"""The JSON of a task that PiAPI's unified generation and Legnext share, as both vendors' documentation shows it."""

from typing import Any

from outpaint_mcp.sandbox.tasks import Task
from outpaint_mcp.sandbox.vendors.answers import iso


def unified_error(code: int | str = 0, message: str = "") -> dict[str, Any]:
    """The field `error`: empty, or why the task failed."""
    return {"code": code, "raw_message": message, "message": message, "detail": None}


def unified_task(
    task: Task,
    at: float,
    *,
    task_id_field: str,
    task_type: str,
    status: str,
    started_at: str,
    input_fields: Any,
    output: dict[str, Any],
    error: dict[str, Any],
    service_mode: str = "",
) -> dict[str, Any]:
    """The JSON of `task` at Unix time `at`; the vendor's id field is called `task_id_field`."""
    stage = task.stage(at)
    return {
        task_id_field: task.id,
        "model": "midjourney",
        "task_type": task_type,
        "status": status,
        "config": {
            "service_mode": service_mode,
            "webhook_config": {
                "endpoint": task.webhook.url if task.webhook else "",
                "secret": task.webhook.secret if task.webhook else "",
            },
        },
        "input": input_fields,
        "output": output,
        "meta": {
            "created_at": iso(task.created_at),
            "started_at": started_at,
            "ended_at": iso(task.finished_at if stage.final else None),
            "usage": {
                "type": "point",
                "frozen": 0 if stage.final else task.charge,
                "consume": task.charge if stage.succeeded else 0,
            },
        },
        "detail": None,
        "logs": [],
        "error": error,
    }
