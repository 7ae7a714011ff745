"""The stream of what becomes of tasks."""

from outpaint_mcp.domain.events import TaskEvent, TaskEvents
from outpaint_mcp.domain.task import Status


def event(task_id: str = "op-1") -> TaskEvent:
    return TaskEvent(task_id, "local", Status.QUEUED, 7.0)


def test_every_listener_hears_of_every_event_in_the_order_in_which_they_subscribed() -> None:
    events = TaskEvents()
    heard: list[tuple[str, str]] = []
    events.subscribe(lambda one: heard.append(("first", one.task_id)))
    events.subscribe(lambda one: heard.append(("second", one.task_id)))
    events.publish(event("op-1"))
    events.publish(event("op-2"))
    assert heard == [("first", "op-1"), ("second", "op-1"), ("first", "op-2"), ("second", "op-2")]


def test_who_unsubscribed_hears_no_more_even_during_an_event() -> None:
    events = TaskEvents()
    heard: list[str] = []
    unsubscribe = events.subscribe(lambda one: heard.append(one.task_id))

    def leave(_: TaskEvent) -> None:
        unsubscribe()
        unsubscribe()

    events.subscribe(leave)
    events.publish(event("op-1"))
    events.publish(event("op-2"))
    assert heard == ["op-1"]
