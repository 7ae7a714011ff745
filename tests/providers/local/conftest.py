"""Synthetic pictures for the engine's tests: every one is made from numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Landscape = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="session")
def landscape() -> Landscape:
    """Draws a sky that brightens towards a horizon over noisy ground: what the engine should continue well."""

    def draw(width: int = 96, height: int = 72, seed: int = 0) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        rows = np.arange(height)[:, None, None] / height
        sky = np.array([90, 140, 210]) + rows * np.array([80, 50, 10]) + rng.normal(0, 1.5, (height, width, 3))
        ground = np.array([70, 90, 40]) + rng.normal(0, 12, (height, width, 3))
        return np.where(rows < 0.6, sky, ground).clip(0, 255).astype(np.uint8)

    return draw
