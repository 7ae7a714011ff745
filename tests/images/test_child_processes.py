"""Child processes that speak JSON lines: small scripts stand in for the decoder and the drawing worker."""

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.images.child_processes import ChildEndedError, ChildProcesses
from outpaint_mcp.images.fair_queue import FairQueue

ANSWERS = """
import json, os, sys
for line in sys.stdin:
    job = json.loads(line)
    for step in job["steps"]:
        print(json.dumps({"step": step}), flush=True)
    if job.get("hang"):
        sys.stdin.readline()
    if job.get("say"):
        print(job["say"], flush=True)
    print(json.dumps({job.get("end", "done"): [os.getpid(), os.environ.get("PAINT_KEY")]}), flush=True)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def processes(script: str = ANSWERS, **options: Any) -> ChildProcesses:
    return ChildProcesses((sys.executable, "-c", script), queue=FairQueue(1), **options)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_messages_come_in_order_and_the_last_one_is_returned() -> None:
    heard: list[dict[str, Any]] = []
    last = await processes().run({"steps": [1, 2, 3]}, heard.append)
    assert heard == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert last.keys() == {"done"}


async def test_a_process_is_kept_within_the_block_unless_it_reported_an_error() -> None:
    kept = processes()
    async with kept:
        first, second = [(await kept.run({"steps": []}))["done"][0] for _ in range(2)]
        assert first == second
        assert (await kept.run({"steps": [], "end": "error"}))["error"][0] == first
        third = (await kept.run({"steps": []}))["done"][0]
        assert third != first
        assert not alive(first)
        assert alive(third)
    assert not alive(third)
    fourth = (await kept.run({"steps": []}))["done"][0]
    assert not alive(fourth), "outside of the block nothing is kept"


async def test_a_process_that_ended_while_it_was_idle_is_replaced() -> None:
    async with processes() as kept:
        first = (await kept.run({"steps": []}))["done"][0]
        os.kill(first, 9)
        assert (await kept.run({"steps": []}))["done"][0] != first


@pytest.mark.parametrize("said", ["what?", "7", "[1]"])
async def test_what_is_not_a_message_ends_the_process(said: str) -> None:
    with pytest.raises(ChildEndedError):
        await processes().run({"steps": [], "say": said})


@pytest.mark.parametrize(
    ("script", "exit_code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)]
)
async def test_an_early_end_is_reported_with_its_exit_code(script: str, exit_code: int) -> None:
    with pytest.raises(ChildEndedError) as ended:
        await processes(script).run({})
    assert ended.value.exit_code == exit_code


async def test_a_job_that_takes_too_long_is_ended_and_the_next_one_gets_its_turn(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    impatient = processes(f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); {ANSWERS}", timeout=2)
    with pytest.raises(TimeoutError):
        await impatient.run({"steps": [], "hang": True})
    assert not alive(int(pid.read_text()))
    with anyio.fail_after(20):
        assert (await impatient.run({"steps": []})).keys() == {"done"}


async def test_a_callback_that_fails_kills_the_process(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def fail(_message: dict[str, Any]) -> None:
        raise ValueError("of the callback")

    script = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); {ANSWERS}"
    with pytest.raises(ValueError, match="of the callback"):
        await processes(script).run({"steps": [1], "hang": True}, fail)
    assert not alive(int(pid.read_text()))


async def test_a_process_has_no_other_environment_than_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is what is under test here, so it cannot be passed in."""
    monkeypatch.setenv("PAINT_KEY", "secret")
    assert (await processes().run({"steps": []}))["done"][1] == "secret"
    assert (await processes(environment={}).run({"steps": []}))["done"][1] is None


async def test_a_process_that_cannot_be_started_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not-there"):
        await ChildProcesses((str(tmp_path / "not-there"),), queue=FairQueue(1)).run({})
