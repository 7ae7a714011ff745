"""The original pasted back into a picture that was drawn anew: drawn pictures, and the file that is written."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFilter

from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.images.paste_back import paste_back

Pixels = NDArray[np.uint8]
FRAME = Frame(480, 320, 120, 80, 240, 160)
PLACE = (120, 80, 360, 240)


def scene(size: tuple[int, int] = (480, 320)) -> Image.Image:
    """A landscape with things of many sizes in it."""
    image = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (image.point(lambda v: v // 2 + 40), image.point(lambda v: 200 - v // 3), image))
    draw, random = ImageDraw.Draw(image), np.random.default_rng(7)
    for _ in range(150):
        x, y, r = (int(random.integers(*limits)) for limits in ((0, size[0]), (0, size[1]), (3, 30)))
        colour = tuple(int(value) for value in random.integers(0, 255, 3))
        draw.ellipse((x - r, y - r, x + r, y + r), colour)
    return image.filter(ImageFilter.GaussianBlur(1))


def redrawn(image: Image.Image, tint: int = 6) -> Image.Image:
    """As an engine draws it anew: softer, of another tone, with other strokes."""
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), np.float32)
    strokes = np.random.default_rng(3).normal(tint, 4, soft.shape)
    return Image.fromarray((soft + strokes).clip(0, 255).astype(np.uint8))


@dataclass
class Outcome:
    pasted: bool
    note: str
    image: Image.Image | None

    def pixels(self, box: tuple[int, int, int, int] | None = None) -> Pixels:
        assert self.image is not None, self.note
        return np.asarray(self.image if box is None else self.image.crop(box))


def outcome(
    folder: Path, drawn: Image.Image, original: Image.Image, *frames: Frame, profile: bytes | None = None
) -> Outcome:
    drawn.save(folder / "drawn.png")
    original.save(folder / "original.png", icc_profile=profile)
    to = folder / "joined"
    to.unlink(missing_ok=True)
    pasted, note = paste_back(folder / "drawn.png", folder / "original.png", Finish(frames or (FRAME,)), to)
    assert to.exists() == pasted
    return Outcome(pasted, note, Image.open(to) if pasted else None)


def test_the_originals_pixels_are_exact_and_only_what_is_around_them_changes(tmp_path: Path) -> None:
    drawn, original = redrawn(scene()), scene().crop(PLACE)
    joined = outcome(tmp_path, drawn, original)
    assert joined.note == ""
    assert joined.image is not None
    assert (joined.image.format, joined.image.size) == ("PNG", drawn.size)
    assert np.array_equal(joined.pixels(PLACE), np.asarray(original))
    # The tone of what is around goes over into that of the original, and is the engine's far from it.
    seam = joined.pixels((120, 78, 360, 80)).astype(int) - np.asarray(scene().crop((120, 78, 360, 80)))
    assert abs(seam.mean()) < 2
    assert np.array_equal(joined.pixels((0, 0, 40, 20)), np.asarray(drawn.crop((0, 0, 40, 20))))


def test_what_an_engine_left_as_it_was_is_left_alone(tmp_path: Path) -> None:
    assert np.array_equal(outcome(tmp_path, scene(), scene().crop(PLACE)).pixels(), np.asarray(scene()))


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_the_original_is_scaled_as_the_result_is(scale: float, tmp_path: Path) -> None:
    size = round(480 * scale), round(320 * scale)
    original = scene().crop(PLACE)
    joined = outcome(tmp_path, redrawn(scene().resize(size)), original)
    box = (*(round(at * scale) for at in PLACE[:2]), *(round(at * scale) for at in PLACE[2:]))
    wanted = original.resize((round(240 * scale), round(160 * scale)), Image.Resampling.LANCZOS)
    assert np.abs(joined.pixels(box).astype(int) - np.asarray(wanted)).mean() < 1  # type: ignore[arg-type]


def test_a_result_in_the_ordered_size_gets_the_exact_pixels_though_it_was_sent_smaller(tmp_path: Path) -> None:
    sent = Frame(240, 160, 60, 40, 120, 80)
    original = scene().crop(PLACE)
    assert np.array_equal(
        outcome(tmp_path, redrawn(scene()), original, sent, FRAME).pixels(PLACE), np.asarray(original)
    )


@pytest.mark.parametrize(
    ("across", "down", "says"), [(5, 0, "5 pixels to the right"), (-2, -5, "2 pixels to the left")]
)
def test_a_result_that_moved_gets_the_original_where_it_lies(across: int, down: int, says: str, tmp_path: Path) -> None:
    original = scene().crop(PLACE)
    joined = outcome(tmp_path, ImageChops.offset(redrawn(scene()), across, down), original)
    assert says in joined.note
    box = PLACE[0] + across, PLACE[1] + down, PLACE[2] + across, PLACE[3] + down
    assert np.array_equal(joined.pixels(box), np.asarray(original))


LARGE = Frame(1200, 800, 300, 200, 600, 400)


def test_in_a_large_result_a_shift_is_found_to_the_pixel(tmp_path: Path) -> None:
    original = scene((1200, 800)).crop((300, 200, 900, 600))
    joined = outcome(tmp_path, ImageChops.offset(redrawn(scene((1200, 800))), 17, -9), original, LARGE)
    assert "17 pixels to the right, 9 pixels up" in joined.note
    assert np.array_equal(joined.pixels((317, 191, 917, 591)), np.asarray(original))


@pytest.mark.parametrize("scale", [0.98, 1.03])
def test_an_original_that_was_drawn_in_another_size_is_pasted_in_that_size(scale: float, tmp_path: Path) -> None:
    whole = scene((1200, 800))
    # What lies beyond the edge of a smaller one is black.
    width, height = 1200 / scale, 800 / scale
    box = (1200 - width) / 2, (800 - height) / 2
    drawn = whole.transform(whole.size, Image.Transform.AFFINE, (1 / scale, 0, box[0], 0, 1 / scale, box[1]))
    joined = outcome(tmp_path, redrawn(drawn, tint=0), whole.crop((300, 200, 900, 600)), LARGE)
    assert "in another size" in joined.note
    across, down = round(300 * scale) - 4, round(200 * scale) - 4
    inside = (600 - across, 400 - down, 600 + across, 400 + down)
    assert np.abs(joined.pixels(inside).astype(int) - np.asarray(drawn.crop(inside))).mean() < 4


def test_on_a_canvas_that_grows_at_one_side_the_original_touches_the_others(tmp_path: Path) -> None:
    original = scene().crop((240, 0, 480, 320))
    joined = outcome(tmp_path, redrawn(scene()), original, Frame(480, 320, 240, 0, 240, 320))
    assert np.array_equal(joined.pixels((240, 0, 480, 320)), np.asarray(original))


def test_a_result_that_was_cropped_to_another_shape_gets_the_original_where_it_is_found(tmp_path: Path) -> None:
    joined = outcome(tmp_path, redrawn(scene()).crop((80, 0, 400, 320)), scene().crop(PLACE))
    assert "another shape than was ordered (320x320 pixels)" in joined.note
    assert np.array_equal(joined.pixels((40, 80, 280, 240)), np.asarray(scene().crop(PLACE)))


@pytest.mark.parametrize(
    "drawn",
    [
        redrawn(scene()).transpose(Image.Transpose.ROTATE_180),
        redrawn(scene()).transpose(Image.Transpose.ROTATE_90),
        Image.new("RGB", (480, 320), "grey"),
        ImageChops.offset(redrawn(scene()), 90, 40),
    ],
    ids=["another", "another of another shape", "nothing", "far away"],
)
def test_a_result_in_which_the_original_is_not_found_is_left_alone_and_the_note_says_so(
    drawn: Image.Image, tmp_path: Path
) -> None:
    joined = outcome(tmp_path, drawn, scene().crop(PLACE))
    assert not joined.pasted
    assert "not found at its place" in joined.note
    assert "as the provider drew it" in joined.note


def test_a_result_whose_middle_is_another_gets_the_original_all_the_same(tmp_path: Path) -> None:
    drawn, original = redrawn(scene()), scene().crop(PLACE)
    drawn.paste(scene().rotate(90).crop((0, 0, 120, 80)), (180, 120))
    joined = outcome(tmp_path, drawn, original)
    assert joined.note == ""
    assert np.array_equal(joined.pixels(PLACE), np.asarray(original))


def test_a_plain_original_goes_to_its_place_only_if_its_colours_were_drawn_there(tmp_path: Path) -> None:
    plain = Image.new("RGB", (480, 320), (90, 140, 220))
    joined = outcome(tmp_path, Image.new("RGB", (480, 320), (96, 138, 214)), plain.crop(PLACE))
    assert (joined.pixels(PLACE) == (90, 140, 220)).all()
    assert np.abs(np.diff(joined.pixels()[160].astype(int), axis=0)).max() <= 1, "no step is seen"
    assert not outcome(tmp_path, Image.new("RGB", (480, 320), (180, 90, 40)), plain.crop(PLACE)).pasted


def with_hole(image: Image.Image) -> Image.Image:
    alpha = Image.new("L", image.size, 255)
    ImageDraw.Draw(alpha).rectangle((100, 60, 139, 99), 0)
    image = image.copy()
    image.putalpha(alpha)
    return image


def test_through_a_transparent_part_of_the_original_an_opaque_result_is_seen(tmp_path: Path) -> None:
    drawn, original = redrawn(scene()), with_hole(scene().crop(PLACE))
    joined = outcome(tmp_path, drawn, original)
    hole = (220, 140, 260, 180)
    assert joined.pixels().shape[2] == 3
    assert np.array_equal(joined.pixels(hole), np.asarray(drawn.crop(hole)))
    assert np.array_equal(joined.pixels((120, 80, 220, 240)), np.asarray(scene().crop((120, 80, 220, 240))))


def test_a_result_that_is_transparent_stays_so_and_gets_the_originals_alpha(tmp_path: Path) -> None:
    drawn, original = redrawn(scene()).convert("RGBA"), with_hole(scene().crop(PLACE))
    drawn.paste((0, 0, 0, 0), (0, 0, 480, 20))
    joined = outcome(tmp_path, drawn, original)
    assert np.array_equal(joined.pixels(PLACE), np.asarray(original))
    assert (joined.pixels((0, 0, 480, 20))[..., 3] == 0).all()


@pytest.mark.parametrize("converts", [False, True])
def test_the_result_has_the_originals_profile_whether_the_engine_kept_its_numbers_or_made_them_srgb(
    converts: bool, tmp_path: Path
) -> None:
    lab = ImageCms.createProfile("sRGB")
    wide = ImageCms.ImageCmsProfile(lab).tobytes()
    swapped = wide.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    original = scene().crop(PLACE)
    drawn = redrawn(scene())
    if converts:
        drawn = ImageCms.profileToProfile(drawn, io.BytesIO(swapped), lab) or drawn
    joined = outcome(tmp_path, drawn, original, profile=swapped)
    assert joined.image is not None
    assert joined.image.info["icc_profile"] == swapped
    assert np.array_equal(joined.pixels(PLACE), np.asarray(original))
    far = joined.pixels((0, 0, 480, 30)).astype(int) - np.asarray(redrawn(scene()).crop((0, 0, 480, 30)))
    assert np.abs(far).mean() < 3


def test_a_grey_original_of_16_bits_is_pasted_with_its_upper_8(tmp_path: Path) -> None:
    grey = scene().convert("L")
    deep = Image.fromarray(np.asarray(grey.crop(PLACE)).astype(np.uint16) * 257)
    joined = outcome(tmp_path, redrawn(grey.convert("RGB")), deep)
    assert np.array_equal(joined.pixels(PLACE)[..., 0], np.asarray(grey.crop(PLACE)))
