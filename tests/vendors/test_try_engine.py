"""scripts/try-engine against an engine of the sandbox that draws, and one that does not."""

import subprocess
import sys
from pathlib import Path

import pytest
from anyio import to_thread
from PIL import Image

from outpaint_mcp.sandbox import Fault, PlainPainter, Sandbox, SandboxSettings, serving

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "try_engine.py"


@pytest.mark.parametrize("draws", [True, False])
async def test_it_draws_three_images_and_tells_what_is_wrong_with_them(tmp_path: Path, draws: bool) -> None:
    sandbox = Sandbox(SandboxSettings(seconds_per_state=0, painter=PlainPainter()))
    if not draws:
        sandbox.faults.add(Fault(vendor="iopaint", on="submit", fault="fail"))
    async with serving(sandbox) as base_url:
        command = [sys.executable, str(SCRIPT), "iopaint", f"{base_url}/iopaint", "--out", str(tmp_path)]
        done = await to_thread.run_sync(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        )
    sandbox.close()
    assert done.returncode == (0 if draws else 1), done.stderr
    assert ("WRONG left: failed: IOPaint is out of memory." in done.stderr) != draws
    names = ("again", "left", "wide") if draws else ()
    for name in names:
        with Image.open(tmp_path / f"iopaint-{name}.png") as image:
            assert image.size == ((684, 385) if name == "wide" else (667, 385))
