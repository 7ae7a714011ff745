"""Sides that a file's format does not have, through the tool: refused before a task exists, with what would work."""

from pathlib import Path

import pytest
from mcp_types import TextResourceContents

from ..serving import connected, picture, settings_for
from .test_app import text_of


@pytest.mark.parametrize(
    ("width", "arguments", "advice"),
    [
        (9_000, {"zoom": 2}, "Use the format png or jpeg, or a zoom of at most 1.82."),
        (16_383, {"zoom": 1.5}, "Use the format png or jpeg."),
        (200, {"zoom": 1.2, "aspect_ratio": "90:1"}, "Use the format png or jpeg, or a zoom of at most 1.14."),
    ],
)
async def test_a_webp_that_is_too_long_is_refused_with_what_would_work(
    tmp_path: Path, width: int, arguments: dict[str, object], advice: str
) -> None:
    path = str(picture(tmp_path, width=width, height=160 if "aspect_ratio" in arguments else 16))
    asked = {"image": path, "provider_options": {"format": "webp"}, "wait_seconds": 0, **arguments}
    async with connected(settings_for(tmp_path)) as client:
        refused = await client.call_tool("outpaint", asked)
        assert refused.is_error
        assert text_of(refused).startswith("[invalid_request] The new image would be ")
        assert "16,383" in text_of(refused)
        assert text_of(refused).endswith(advice)
        (recent,) = (await client.read_resource("outpaint://tasks")).contents
        assert isinstance(recent, TextResourceContents)
        assert recent.text == "[]", "no task was made"
        taken = await client.call_tool("outpaint", {**asked, "provider_options": {"format": "png"}})
        assert not taken.is_error
