"""The canvas that a self-hosted engine draws on."""

from hypothesis import given
from hypothesis import strategies as st

from outpaint_mcp.domain.frame import Frame
from outpaint_mcp.domain.working_canvas import WorkingCanvas

lengths = st.tuples(st.integers(0, 3000), st.integers(1, 6000), st.integers(0, 3000))


@given(
    across=lengths,
    down=lengths,
    multiple=st.sampled_from([1, 8, 16, 64]),
    pixels=st.sampled_from([(0, 300_000), (260_000, 600_000), (700_000, 1_048_576), (0, 80_000_000)]),
)
def test_every_frame_lies_whole_on_it_with_something_to_paint_at_each_side_that_grows(
    across: tuple[int, int, int], down: tuple[int, int, int], multiple: int, pixels: tuple[int, int]
) -> None:
    frame = Frame(sum(across), sum(down), across[0], down[0], across[1], down[1])
    least, most = pixels
    working = WorkingCanvas.of(frame, min_pixels=least, max_pixels=most, multiple=multiple)
    assert WorkingCanvas.from_reference(working.reference) == working
    placed = working.placed(frame)
    assert (placed.canvas_width % multiple, placed.canvas_height % multiple) == (0, 0)
    assert 0 <= working.padded_width - working.width < multiple
    assert 0 <= working.padded_height - working.height < multiple
    assert min(placed.width, placed.height) >= 1
    area = frame.canvas_width * frame.canvas_height
    if least <= area <= most:
        assert (working.width, working.height) == (frame.canvas_width, frame.canvas_height)
        assert (placed.x, placed.y, placed.width, placed.height) == (frame.x, frame.y, frame.width, frame.height)
    for before, start, length, after, side in (
        (across[0], placed.x, placed.width, across[2], working.width),
        (down[0], placed.y, placed.height, down[2], working.height),
    ):
        if side > 2:  # else there is no room for both
            assert bool(start) == bool(before)
            assert (start + length < side) == bool(after)


def test_a_text_that_is_no_reference_is_none() -> None:
    for text in (None, "", "1x1", "1x1/1x1/", "ax1/1x1", "https://example.com"):
        assert WorkingCanvas.from_reference(text) is None
