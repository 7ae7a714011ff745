"""Kill -9 at every boundary that an order passes, restart, make the same call: real processes, a real vendor."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, serving

SCRIPT = Path(__file__).with_name("order_once.py")
AT_ONCE = 6


async def run(folder: Path, base_url: str, die_at: str) -> tuple[int, list[str], dict[str, Any] | None]:
    """Exit code, the boundaries that were passed, and the task if the process lived to tell it."""
    command = [sys.executable, str(SCRIPT), str(folder), base_url, "1.5", die_at]
    done = await anyio.run_process(command, check=False)
    lines = done.stdout.decode().splitlines()
    passed = [line.partition(" ")[2] for line in lines if not line.startswith("{")]
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode, passed, json.loads(lines[-1]) if done.returncode == 0 else None


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
async def test_whatever_the_moment_of_death_the_vendor_counts_one_order_and_the_task_is_found_again(
    tmp_path: Path,
) -> None:
    def sandbox() -> Sandbox:
        # Long enough that each state is seen.
        return Sandbox(SandboxSettings(seconds_per_state=0.3, painter=PlainPainter()))

    whole = sandbox()
    async with serving(whole) as base_url:
        _, boundaries, task = await run(tmp_path / "whole", base_url, "0")
    whole.close()
    assert task is not None
    assert task["status"] == "succeeded"
    # How often a state is seen differs from run to run: each boundary is died at when it is first passed.
    points = list(dict.fromkeys(boundaries))
    assert len(points) >= 12
    places = anyio.CapacityLimiter(AT_ONCE)

    async def die_and_return(name: str, number: int) -> None:
        async with places:
            shop = sandbox()
            folder = tmp_path / f"death-{number}"
            async with serving(shop) as base_url:
                code, passed, _ = await run(folder, base_url, name)
                assert code == -signal.SIGKILL, name
                assert passed[-1] == name
                _, _, task = await run(folder, base_url, "0")
                assert task is not None, name
                counted = {kind: shop.order_count("apimart", kind) for kind in ("upscale", "outpaint")}
            shop.close()
            # Between the note that it is being sent and the stored answer nobody can know.
            died_at = passed[-1]
            unclear = died_at.startswith(("after mark_sent", "before start", "after start"))
            unclear = unclear or (died_at.startswith("before save") and passed[-2].startswith("after start"))
            assert max(counted.values()) <= 1, (died_at, counted)
            if unclear:
                assert task["status"] == "unknown", died_at
                assert task["failure"]["code"] == "order_unconfirmed"
            else:
                assert (task["status"], counted) == ("succeeded", {"upscale": 1, "outpaint": 1}), died_at

    async with anyio.create_task_group() as deaths:
        for number, name in enumerate(points):
            deaths.start_soon(die_and_return, name, number)
