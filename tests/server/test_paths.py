"""Paths as people, shells and models write them: the exact file first, then the one that is meant, never another."""

import sys
import unicodedata
from pathlib import Path

import pytest

from ..serving import connected, picture, settings_for
from .test_app import text_of

pytestmark = [
    pytest.mark.usefixtures("decoded_here"),
    pytest.mark.skipif(sys.platform == "win32", reason="the names and paths are those of Unix"),
]

SCREENSHOT = "Screenshot 2026-05-12 at 4.42.48\u202fPM.png"
ACCENT = unicodedata.normalize("NFD", "Caf\u00e9s")


def photo(folder: Path, name: str, width: int = 48) -> Path:
    """A picture of any name."""
    return picture(folder, width=width).rename(folder / name)


WRITTEN = {
    "sea side.png": [
        *['"{}"', "'{}'", "`{}`", "\u201c{}\u201d", "@{}", '@"{}"', "~/sea side.png"],
        *["$HOME/sea side.png", '"${{HOME}}/sea side.png"', r"%USERPROFILE%\sea side.png"],
        *[r"$HOME/sea\ side.png", "file://~/sea side.png", "'{}'\n", "file:{}", "~/'sea side.png'"],
        *["~/sea%20side.png", "<{}>", "({})", "Path: {}", "\u202a{}", "{},"],
    ],
    "a (1) & b's.png": ["~/a\\ \\(1\\)\\ \\&\\ b\\'s.png", "~/a (1) & b\u2019s.png"],
    SCREENSHOT: ["~/Screenshot 2026-05-12 at 4.42.48 PM.png", "~/Screenshot 2026-05-12  at 4.42.48\u00a0PM.png"],
    f"{ACCENT}.png": ["~/Caf\u00e9s.png", "file://{folder}/Caf%C3%A9s.png"],
    "shot #1 (50%).png": ["file://{}", "file:{}", "'file://{}'", "![shot](file://{})"],
    "what?.png": ["file://{}", "file://localhost{}"],
}


async def test_a_path_is_read_as_it_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with connected(settings_for(tmp_path)) as client:
        # Each is an image of its own, and so an order of its own.
        for width, (name, written) in enumerate(WRITTEN.items(), 48):
            path = photo(tmp_path, name, width)
            exact = (await client.call_tool("outpaint", {"image": str(path), "zoom": 1.5})).structured_content
            assert not any("image that was read" in note for note in exact["notes"])
            for one in written:
                image = one.format(path, folder=tmp_path)
                again = await client.call_tool("outpaint", {"image": image, "zoom": 1.5})
                assert not again.is_error, (image, text_of(again))
                assert again.structured_content["id"] == exact["id"], image


async def test_folders_are_found_like_files_and_the_notes_say_what_was_opened(tmp_path: Path) -> None:
    folder = tmp_path / ACCENT / "My\u00a0Photos"
    folder.mkdir(parents=True)
    path = photo(folder, "a.png")
    async with connected(settings_for(tmp_path)) as client:
        result = await client.call_tool("outpaint", {"image": f"{tmp_path}/Caf\u00e9s/My Photos/a.png", "zoom": 1.5})
    assert result.structured_content["request"]["image"] == str(path)
    assert f"The image that was read is {str(path)!r}." in result.structured_content["notes"]


async def test_the_exact_name_comes_first_and_several_alike_are_refused_by_name(tmp_path: Path) -> None:
    for name, width in (("a b.png", 20), ("a\\ b.png", 40), ("c\u202fd.png", 60), ("c\u00a0d.png", 80)):
        photo(tmp_path, name, width)
    async with connected(settings_for(tmp_path)) as client:
        for name, wide in (("a b.png", 30), ("a\\ b.png", 60), ("c\u202fd.png", 90), ("c\u00a0d.png", 120)):
            result = await client.call_tool("outpaint", {"image": f"{tmp_path}/{name}", "zoom": 1.5})
            assert result.structured_content["images"][0]["width"] == wide
        unclear = await client.call_tool("outpaint", {"image": f"{tmp_path}/c d.png"})
    assert text_of(unclear).startswith("[invalid_image] ")
    assert "'c\\u202fd.png'" in text_of(unclear)
    assert "'c\\xa0d.png'" in text_of(unclear)


async def test_no_reading_of_a_path_leads_out_of_the_folders_that_may_be_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = photo(tmp_path, "a\u202fb.png")
    (inside / "c\u202fd.png").symlink_to(secret)
    async with connected(settings_for(tmp_path, file_roots=(inside,))) as client:
        for image in (
            f'"{secret}"',
            f"{tmp_path}/a b.png",
            f"{inside}/../a b.png",
            f"{inside}/c d.png",
            f"{inside}/c\u202fd.png",
            f"@{secret}",
            f"file://{inside}/../a b.png",
            f"{inside}/%2e%2e/{secret.name}",
            f"{inside}/\\.\\./{secret.name}",
        ):
            result = await client.call_tool("outpaint", {"image": image})
            assert text_of(result).startswith(("[forbidden_url] ", "[invalid_image] There is no file")), image


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("file://home/u/a.png", "Write three slashes"),
        ("www.example.com/a.png", "write https:// before it"),
        ("photo.png", "Give its full path on this machine"),
        ("the image above", "what only a chat has cannot be read"),
        ("C:\\Users\\u\\a.png", "one of Windows, and this server runs on"),
        ("`D:/a.png`", "one of Windows, and this server runs on"),
        ("file:///C:/Users/u/a.png", "one of Windows, and this server runs on"),
        ("\\\\server\\share\\a.png", "one of Windows, and this server runs on"),
    ],
)
async def test_a_path_that_is_not_of_this_machine_is_refused_with_what_to_write(
    tmp_path: Path, image: str, told: str
) -> None:
    async with connected(settings_for(tmp_path)) as client:
        assert told in text_of(await client.call_tool("outpaint", {"image": image}))
