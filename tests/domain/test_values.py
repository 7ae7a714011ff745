"""What values are read as, and which have no single meaning."""

from typing import Any

import pytest

from outpaint_mcp.domain import values


@pytest.mark.parametrize(
    ("written", "ratio"),
    [
        ("1.77", "16:9"),
        (21 / 9, "7:3"),
        ("1.85:1", "37:20"),
        ("1:1.5", "2:3"),
        ("1,33:1", "4:3"),
        ("8.5 x 11", "17:22"),
        ("1920px x 1080px", "16:9"),
        ("Square", "1:1"),
        ("16:9 (widescreen)", "16:9"),
        ("Portrait, 9x16", "9:16"),
        ("aspect ratio: 4:3", "4:3"),
        (1, "1:1"),
        (0.8, "4:5"),
    ],
)
def test_an_aspect_ratio_is_read_as_the_one_that_is_meant(written: Any, ratio: str) -> None:
    assert values.aspect_ratio(written) == ratio


@pytest.mark.parametrize(
    "written",
    [
        "portrait",
        "portrait 16:9",
        "square 4:3",
        "4K",
        "3,2",
        "3.2",
        "1\u00bd",
        "16:9:1",
        "19999:10000",
        "-16:9",
        "",
        "1" * 300,
        {},
        None,
    ],
)
def test_what_is_no_aspect_ratio_stays_as_it_is(written: Any) -> None:
    assert values.aspect_ratio(written) == written


def test_no_flag_is_taken_for_a_number() -> None:
    for read in (values.zoom, values.seconds, values.whole, values.aspect_ratio):
        assert isinstance(read(True), str)
