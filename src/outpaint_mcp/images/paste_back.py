"""Puts the original back over a picture that an engine drew wholly anew, at its place and in the picture's scale.

The original keeps its pixels, but for scaling: the seam is hidden in the new area alone. Where the original is
not found, the picture is left as it is: a copy of it beside its own place would be worse than one that was redrawn.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

from outpaint_mcp.domain.finish import Finish
from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.working_canvas import WorkingCanvas
from outpaint_mcp.images.colours import colours_of
from outpaint_mcp.images.decode import open_image
from outpaint_mcp.images.modes import eight_bits, rgb_of_cmyk
from outpaint_mcp.images.registration import Match, Place, register, resized
from outpaint_mcp.images.seam import hide_seam

SAME_SHAPE: Final = 0.01
"""By how much two ratios may differ that are the same but for rounding."""
_REACH: Final = (0.03, 8)  # of the picture's longer side, and at least: pixels that the original may have moved
_SURE: Final = 0.45  # correlation at which it is found; pictures of other things that have edges there come to 0.4
_PROMINENT: Final = (0.15, 6.0)  # correlation and prominence at which it is found though much was drawn otherwise
_RESIZED, _BETTER, _ROUNDS = 0.0075, 0.03, 3  # of its size, and of the correlation: what is worth scaling the original
_SAME_COLOURS: Final = 16.0  # levels on average that a plain original may differ from what was drawn of it
_VISIBLE: Final = 0.5  # of the original that must lie within the picture
_PNG_LEVEL: Final = 1  # a level more takes twice the time, for a tenth of the size
_SAMPLE: Final = 256  # pixels on a side in which colours are compared
_LEFT_ALONE: Final = "so it was not pasted back: the new image is as the provider drew it"


def paste_back(result: Path, original: Path, finish: Finish, to: Path) -> tuple[bool, str]:
    """Write the picture at `result` with the original in it, as a PNG with the original's colour profile.

    Args:
        result: what the engine drew.
        original: your own image as it was given, of any size.
        finish: what was to be drawn, and on what.
        to: where to write.

    Returns:
        Whether it was written, and what the client should know, which may be nothing.

    Raises:
        InvalidImageError: one of the two cannot be opened.
    """
    drawn = open_image(result)
    picture, frames = _as_drawn(drawn), finish.frames
    if finish.working is not None and (whole := _whole(picture, finish.working, frames[0])) is not None:
        _finished(whole, drawn, original, frames[0] if finish.pastes else None, to)
        return True, ""
    if not finish.pastes:
        picture.save(to, "PNG", compress_level=_PNG_LEVEL, icc_profile=_profile(drawn))
        return True, f"The new image has another shape than was ordered ({picture.width}x{picture.height} pixels)."
    exact = next((one for one in frames if (one.canvas_width, one.canvas_height) == picture.size), frames[0])
    places = _places(exact, picture.size)
    opened = open_image(original, (max(place[2] for place in places), max(place[3] for place in places)))
    image = _rgb(opened)
    same_shape = len(places) == 1
    found = _best(image, picture, places, same_shape)
    if found is None:
        other = "" if same_shape else f" (it has another shape, {picture.width}x{picture.height})"
        return False, f"The original was not found at its place in the new image{other}, {_LEFT_ALONE}."
    place, moved = found
    image = _scaled(image, place[2:])
    profile = _profile(opened)
    picture = _in_colours(picture, _profile(drawn), image, profile, place)
    _joined(picture, image, place[:2]).save(to, "PNG", compress_level=_PNG_LEVEL, icc_profile=profile)
    return True, moved


def _whole(picture: Image.Image, working: WorkingCanvas, frame: Frame) -> Image.Image | None:
    """The frame's whole canvas, of what was drawn on `working`; None if it has another shape, so something is cut off.

    An engine may have drawn it in another size.
    """
    if abs(picture.width * working.padded_height / working.padded_width - picture.height) > 1:
        return None
    across, down = picture.width / working.padded_width, picture.height / working.padded_height
    box = 0, 0, working.width * across, working.height * down
    size = frame.canvas_width, frame.canvas_height
    if box[2:] == size:
        return picture.crop((0, 0, *size))
    return picture.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=3.0)


def _finished(picture: Image.Image, drawn: Image.Image, original: Path, frame: Frame | None, to: Path) -> None:
    """Write a picture of the ordered canvas, with the original at its place in `frame`."""
    profile = _profile(drawn)
    if frame is not None:
        opened = open_image(original, (frame.width, frame.height))
        image, own = _scaled(_rgb(opened), (frame.width, frame.height)), _profile(opened)
        picture = _in_colours(picture, profile, image, own, (frame.x, frame.y, frame.width, frame.height))
        picture, profile = _joined(picture, image, (frame.x, frame.y)), own
    picture.save(to, "PNG", compress_level=_PNG_LEVEL, icc_profile=profile)


def _places(frame: Frame, size: tuple[int, int]) -> list[Place]:
    """Where the original is to be expected: one place, or several where the picture has another shape."""
    across, down = size[0] / frame.canvas_width, size[1] / frame.canvas_height
    if abs(across / down - 1) <= SAME_SHAPE:
        return [_place(frame, size, across, down)]
    # Drawn smaller with more around it, cropped, or squeezed.
    scales = [(min(across, down),) * 2, (max(across, down),) * 2, (across, down)]
    return [_place(frame, size, *scale) for scale in scales]


def _place(frame: Frame, size: tuple[int, int], across: float, down: float) -> Place:
    """The original's place on a canvas that is scaled so and centred."""
    x, y = (size[0] - frame.canvas_width * across) / 2, (size[1] - frame.canvas_height * down) / 2
    left, right = (round(x + at * across) for at in (frame.x, frame.x + frame.width))
    top, bottom = (round(y + at * down) for at in (frame.y, frame.y + frame.height))
    return left, top, max(1, right - left), max(1, bottom - top)


def _best(
    image: Image.Image, picture: Image.Image, places: Sequence[Place], same_shape: bool
) -> tuple[Place, str] | None:
    """Where the original lies, and a note if that is not where it was to be; None if that is not sure.

    A plain original (a sky, a white ground) can be found nowhere, and no shift of it would be seen: it goes to its
    place if what was drawn there has its colours.
    """
    grey = picture.convert("L")
    reach = max(round(_REACH[0] * max(picture.size)), _REACH[1])
    best: tuple[float, Place, Match] | None = None
    for place in places:
        x, y, width, height = place
        if _area_within(place, picture.size) < _VISIBLE * width * height:
            continue
        scaled = _scaled(image, (width, height))
        match = register(_on_grey(scaled), grey, (x, y), min(reach, max(1, min(width, height) // 8)))
        if match is None or match.score is None:
            if same_shape and _difference(scaled, picture, (x, y)) <= _SAME_COLOURS:
                return place, ""
        elif _is_sure(match.score, match.prominence, same_shape) and (best is None or match.score > best[0]):
            best = match.score, place, match
    if best is None:
        return None
    score, (x, y, width, height), match = best
    found = _as_large_as_drawn(image, grey, (match.x, match.y, width, height), score, reach)
    if not same_shape:
        return found, (
            f"The new image has another shape than was ordered ({picture.width}x{picture.height} pixels); the original "
            f"was found in it and pasted back there, {found[2]}x{found[3]} pixels large."
        )
    if found[2:] != (width, height):
        return found, (
            f"The provider drew the original in another size, {found[2]}x{found[3]} pixels in place of "
            f"{width}x{height}; it was pasted back in that size."
        )
    moved = ", ".join(
        f"{abs(by)} pixel{'s' * (abs(by) > 1)} {words[by > 0]}"
        for by, words in ((match.x - x, ("to the left", "to the right")), (match.y - y, ("up", "down")))
        if by
    )
    return found, f"The provider drew the original {moved} from its place; it was pasted back there." if moved else ""


def _as_large_as_drawn(image: Image.Image, grey: Image.Image, place: Place, score: float, reach: int) -> Place:
    """The place, or one of another size in which the original agrees much better with what was drawn of it."""
    for _ in range(_ROUNDS):
        x, y, width, height = place
        found = resized(_on_grey(_scaled(image, (width, height))), grey, (x, y), reach)
        if found is None or abs(found[2] / width - 1) < _RESIZED:
            break
        match = register(_on_grey(_scaled(image, found[2:])), grey, found[:2], reach)
        if match is None or (match.score or 0) < score + _BETTER:
            break
        place, score = (match.x, match.y, *found[2:]), match.score or 0
    return place


def _is_sure(score: float, prominence: float, same_shape: bool) -> bool:
    return score >= _SURE or (same_shape and score >= _PROMINENT[0] and prominence >= _PROMINENT[1])


def _area_within(place: Place, size: tuple[int, int]) -> int:
    wide = min(place[0] + place[2], size[0]) - max(place[0], 0)
    tall = min(place[1] + place[3], size[1]) - max(place[1], 0)
    return max(0, wide) * max(0, tall)


def _difference(image: Image.Image, picture: Image.Image, at: tuple[int, int]) -> float:
    """By how many levels the two differ on average where both are, seen from afar."""
    x, y = at
    box = max(x, 0), max(y, 0), min(x + image.width, picture.width), min(y + image.height, picture.height)
    size = min(_SAMPLE, box[2] - box[0]), min(_SAMPLE, box[3] - box[1])
    own = image.resize(size, Image.Resampling.BOX, (box[0] - x, box[1] - y, box[2] - x, box[3] - y))
    drawn = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX, box), np.float32)
    levels = np.asarray(own, np.float32)
    differences = np.abs(levels[..., :3] - drawn).mean(axis=2)
    visible = levels[..., 3] / 255 if own.mode == "RGBA" else np.ones_like(differences)
    return float((differences * visible).sum() / max(1.0, float(visible.sum())))


def _joined(picture: Image.Image, image: Image.Image, at: tuple[int, int]) -> Image.Image:
    """The picture with the image in it. Through its transparent parts an opaque picture is seen."""
    x, y = at
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + image.width, picture.width), min(y + image.height, picture.height)
    image = image.crop((left - x, top - y, right - x, bottom - y))
    canvas = np.array(picture)
    hide_seam(canvas, np.asarray(image), (left, top))
    joined = Image.fromarray(canvas)
    joined.paste(image, (left, top), image if image.mode == "RGBA" and joined.mode == "RGB" else None)
    return joined


def _in_colours(
    picture: Image.Image, its: bytes | None, image: Image.Image, own: bytes | None, place: Place
) -> Image.Image:
    """The picture with its numbers meant as the original's are.

    An engine that says nothing of its colours kept the original's numbers, or made them sRGB: the nearer is taken.
    """
    if its == own:
        return picture
    converted = _converted(picture, its, own)
    if converted is None:
        return picture
    if its is None and _difference(image, picture, place[:2]) <= _difference(image, converted, place[:2]):
        return picture
    return converted


def _converted(picture: Image.Image, its: bytes | None, own: bytes | None) -> Image.Image | None:
    """From one profile to the other, where None is sRGB; None if one of them is unusable."""
    try:
        source, target = (
            ImageCms.createProfile("sRGB") if one is None else ImageCms.ImageCmsProfile(io.BytesIO(one))
            for one in (its, own)
        )
        return ImageCms.profileToProfile(picture, source, target)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _profile(opened: Image.Image) -> bytes | None:
    """The profile of an image in colours; None for sRGB without one."""
    colours = colours_of(opened.info["colour_tags"])
    profile: Any = opened.info.get("icc_profile") or (colours and colours.profile(grey=False))
    fits = isinstance(profile, bytes) and profile[16:20] == b"RGB " and opened.mode != "CMYK"
    return profile if fits else None


def _as_drawn(opened: Image.Image) -> Image.Image:
    """In RGB, or in RGBA where something of it is transparent indeed."""
    picture = _rgb(opened)
    is_opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
    return picture.convert("RGB") if is_opaque else picture


def _rgb(opened: Image.Image) -> Image.Image:
    image = eight_bits(opened)
    if image.mode == "CMYK":
        return rgb_of_cmyk(image, opened.info.get("icc_profile"))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _on_grey(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    return image.convert("L")
