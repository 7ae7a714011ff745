"""Changes of colours in whole levels: each channel by itself, or as the channels of a JPEG step."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from outpaint_mcp.providers.local.levels import steps_together, whole


def _slope(channels: int = 3) -> NDArray[np.float32]:
    """A change that grows by a tenth of a level from column to column, from another number in each channel."""
    columns = np.arange(60, dtype=np.float32)[None, :, None] / 10
    starts = np.array([0.0, 0.37, 0.71, 0.2][:channels], np.float32)
    return (columns + starts + np.zeros((4, 60, channels))).astype(np.float32)


def test_each_channel_takes_the_nearest_level_by_itself() -> None:
    change = _slope()
    levels = whole(change, together=False)
    assert (levels == np.rint(change)).all()


def test_channels_that_change_alike_step_at_the_same_places() -> None:
    change = _slope()
    levels = whole(change, together=True)
    steps = np.diff(levels, axis=1)
    assert (steps.max(-1) == steps.min(-1)).all()
    assert steps.any()
    assert (levels == np.rint(levels)).all()
    assert np.abs(levels - change).max() <= 1


def test_an_alpha_takes_the_nearest_level_whatever_the_colours_do() -> None:
    change = _slope(4)
    assert (whole(change, together=True)[..., 3] == np.rint(change[..., 3])).all()


def test_grey_takes_the_nearest_level() -> None:
    grey = np.repeat(_slope()[..., :1] + np.float32(0.01), 3, 2)
    assert (whole(grey, together=True) == np.rint(grey)).all()


def _soft(channels_apart: float, seed: int = 0) -> NDArray[np.uint8]:
    """A soft image whose channels have noise of their own."""
    rng = np.random.default_rng(seed)
    spots = Image.fromarray(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)).resize((240, 180))
    soft = np.asarray(spots.filter(ImageFilter.GaussianBlur(12))).astype(float)
    return np.clip(soft + rng.normal(0, channels_apart, soft.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("quality", [75, 90])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_channels_of_a_jpeg_step_together(quality: int, noise: float) -> None:
    file = io.BytesIO()
    Image.fromarray(_soft(noise)).save(file, "JPEG", quality=quality)
    assert steps_together(np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize("noise", [0.3, 0.5, 2.0])
def test_channels_with_noise_of_their_own_do_not(noise: float) -> None:
    assert not steps_together(_soft(noise))


def test_grey_steps_together_and_what_has_no_steps_does_not() -> None:
    assert steps_together(np.repeat(_soft(1.0)[..., :1], 3, 2))
    assert not steps_together(np.full((40, 50, 3), 200, np.uint8))
