"""Whose turn it is in a queue: no client waits behind all of another one's jobs."""

import anyio
import anyio.lowlevel
import pytest

from outpaint_mcp.domain.errors import RateLimitedError
from outpaint_mcp.images.fair_queue import FairQueue


def test_clients_take_turns_however_many_jobs_each_has() -> None:
    queue = FairQueue(1)
    running = queue.join("greedy")
    waiting = {f"greedy {number}": queue.join("greedy") for number in range(5)}
    waiting |= {f"{name} {number}": queue.join(name) for name in ("ann", "bob") for number in range(2)}
    turns = []
    while waiting:
        running.leave()
        ((name, running),) = [(name, place) for name, place in waiting.items() if place.turn.is_set()]
        del waiting[name]
        turns.append(name)
    assert [turn.split()[0] for turn in turns] == ["greedy", "ann", "bob"] * 2 + ["greedy"] * 3
    for name in ("greedy", "ann", "bob"):
        own = [turn for turn in turns if turn.startswith(name)]
        assert own == sorted(own)


def test_the_client_with_the_fewest_running_jobs_is_next() -> None:
    queue = FairQueue(4)
    first = [queue.join("greedy") for _ in range(4)]
    more, own = queue.join("greedy"), [queue.join("ann") for _ in range(2)]
    for place in first[:2]:
        place.leave()
    assert [more.turn.is_set(), *(place.turn.is_set() for place in own)] == [False, True, True]


def test_what_is_beyond_a_clients_share_is_left_for_the_others() -> None:
    queue = FairQueue(3, share=2)
    greedy = [queue.join("greedy") for _ in range(4)]
    assert [place.turn.is_set() for place in greedy] == [True, True, False, False]
    assert queue.join("ann").turn.is_set()
    greedy[0].leave()
    assert greedy[2].turn.is_set()


def test_a_client_with_too_many_waiting_jobs_is_refused_and_no_other() -> None:
    queue = FairQueue(1, max_waiting=2, what="drawings")
    queue.join("greedy")
    waiting = [queue.join("greedy") for _ in range(2)]
    with pytest.raises(RateLimitedError, match="2 drawings of yours are waiting already"):
        queue.join("greedy")
    queue.join("greedy", bounded=False).leave()
    queue.join("ann")
    waiting[0].leave()
    queue.join("greedy")


def test_a_place_tells_whether_its_client_has_others() -> None:
    queue = FairQueue(1)
    assert [queue.join("greedy").is_only_one for _ in range(3)] == [True, False, False]
    assert queue.join("ann").is_only_one


async def test_who_is_cancelled_while_waiting_or_running_leaves_the_queue() -> None:
    queue, begun = FairQueue(1), list[str]()

    async def job(name: str) -> None:
        async with queue.join(name):
            begun.append(name)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for name in ("ann", "ann", "bob"):
            tasks.start_soon(job, name)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert begun == ["ann"]
    assert queue.join("carol").turn.is_set()
