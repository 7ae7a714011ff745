"""Kill -9 at every boundary that an order passes, restart, make the same call: real processes, a real vendor."""

from pathlib import Path

import anyio

from outpaint_mcp.sandbox import PlainPainter, Sandbox, SandboxSettings, serving

from .conftest import Processes

AT_ONCE = 6


async def test_whatever_the_moment_of_death_the_vendor_counts_one_order_and_the_task_is_found_again(
    tmp_path: Path, processes: Processes
) -> None:
    def sandbox() -> Sandbox:
        # Long enough that each state is seen.
        return Sandbox(SandboxSettings(seconds_per_state=0.3, painter=PlainPainter()))

    whole = sandbox()
    async with serving(whole) as base_url:
        boundaries, task = await processes.place(tmp_path / "whole", base_url)
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
                passed, told = await processes.place(folder, base_url, die_at=name)
                assert (told, passed[-1]) == (None, name)
                _, task = await processes.place(folder, base_url)
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
