"""The benchmark of the engine: its measures can be trusted, its drawn pictures hold their middle, all is scored."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outpaint_mcp.settings import child_environment

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MEASURES = """
import json
import numpy as np
from measures import scores
from outpaint_mcp.providers.local.plan import Canvas

def all_of(drawn, truth):
    found = scores(drawn, truth, Canvas(90, 60, 15, 10), 60, 40)
    return [found.lswd, found.ghd, found.seam, found.mean_error, found.largest_error]

flat = np.full((60, 90, 3), 200, np.uint8)
noise = np.random.default_rng(0).integers(0, 256, flat.shape).astype(np.uint8)
print(json.dumps([all_of(*pair) for pair in ((flat, flat), (flat + 3, flat), (flat - 90, flat), (noise, flat))]))
"""
SCENES = """
import json
from graphics import SCENES
from scene import HEIGHT, WIDTH
drawn = {name: draw() for name, draw in SCENES["logos, icons, line art"].items()}
print(json.dumps({name: [*pixels.shape, str(pixels.dtype), HEIGHT, WIDTH] for name, pixels in drawn.items()}))
"""


def printed(code: str) -> Any:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=BENCHMARKS, env=child_environment(), capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_a_flat_ring_is_scored_like_any_other() -> None:
    same, near, far, noise = printed(MEASURES)
    assert same == pytest.approx([0, 0, 1, 0, 0], abs=1e-6)
    assert near[3:] == [3, 3]
    assert 0 < near[0] < far[0] < 100
    assert 0 < noise[0] < 100
    assert noise[2] > 10


def test_drawn_pictures_have_half_as_much_around_them() -> None:
    for name, (rows, columns, channels, dtype, height, width) in printed(SCENES).items():
        assert (rows * 2, columns * 2, dtype) == (height * 3, width * 3, "uint8"), name
        assert channels in (3, 4), name


def test_every_score_is_from_0_to_3() -> None:
    with (BENCHMARKS / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["picture"] for row in rows}) == len(rows) > 50
    for row in rows:
        assert row["kind"], row
        assert 0 <= float(row["before"]) <= 3, row
        assert 0 <= float(row["now"]) <= 3, row
