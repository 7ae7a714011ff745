"""Where the command line writes images, and that it writes over nothing that was not named."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from outpaint_mcp.cli.output import default_output, write_image
from outpaint_mcp.domain.task import Image as TaskImage
from outpaint_mcp.domain.task import Status, Task

from ..serving import picture
from .conftest import Command


def formats(folder: Path, pattern: str) -> dict[str, str | None]:
    """The images whose names fit, with what they are."""
    found = {}
    for path in folder.glob(pattern):
        with Image.open(path) as image:
            found[path.name] = image.format
    return found


def test_a_suffix_picks_the_format_and_a_file_of_another_one_stays(tmp_path: Path, command: Command) -> None:
    picture(tmp_path, name="keep.png")
    before = (tmp_path / "keep.png").read_bytes()
    for name in ("keep.jpg", "keep2.JPG", "keep.webp"):
        code, out, err = command("outpaint", "keep.png", "--zoom", "1.5", "-o", name)
        assert code == 0, err
        assert f"Written: {name}" in out
    assert formats(tmp_path, "keep*") == {
        "keep.png": "PNG",
        "keep.jpg": "JPEG",
        "keep2.JPG": "JPEG",
        "keep.webp": "WEBP",
    }
    assert (tmp_path / "keep.png").read_bytes() == before


def test_what_is_no_suffix_is_a_part_of_the_name_and_no_name_that_was_not_given_is_written_over(
    tmp_path: Path, command: Command
) -> None:
    picture(tmp_path)
    for name in ("2024.05.png", "out-1.png"):
        (tmp_path / name).write_text("mine")
    _, dotted, _ = command("outpaint", "picture.png", "--zoom", "1.5", "-o", "2024.05")
    assert "Written: 2024.05-2.png" in dotted
    several = ["--option", "variants=2", "--option", "quality=fast", "-o", "out.png"]
    for _ in range(2):
        _, out, _ = command("outpaint", "picture.png", "--zoom", "1.25", *several)
        assert "Written: out-1-2.png\nWritten: out-2.png" in out, "what is there already is not written twice"
    assert sorted(path.name for path in tmp_path.glob("*.png") if path.read_bytes() == b"mine") == [
        "2024.05.png",
        "out-1.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "keep.gif"], "no .gif is written; give .png, .jpg, .jpeg, .webp or no suffix"),
        (["-o", "keep.TIFF"], "no .TIFF is written"),
        (["-o", "keep.svg"], "no .svg is written"),
        (["-o", "keep.jpg", "--option", "format=png"], "[invalid_request] The name keep.jpg asks for another format"),
        (["-o", "keep.png", "--option", "format=JPG"], "[invalid_request] The name keep.png asks for another format"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_ordered(
    tmp_path: Path, command: Command, arguments: list[str], said: str
) -> None:
    picture(tmp_path)
    code, out, err = command("outpaint", "picture.png", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "data").exists()


def a_task(count: int = 1, **request: str) -> Task:
    now = datetime.now(UTC)
    images = tuple(TaskImage(index=index, url="https://example.com/a.png") for index in range(1, count + 1))
    return Task(
        id="op-x",
        provider="legnext",
        status=Status.SUCCEEDED,
        images=images,
        request=dict(request),
        created_at=now,
        updated_at=now,
    )


def test_an_image_of_a_vendor_in_another_format_gets_a_new_name(tmp_path: Path) -> None:
    (tmp_path / "keep.png").write_bytes(b"mine")
    target = tmp_path / "keep.jpg"
    (tmp_path / "keep.jpg").write_bytes(b"older")
    new = write_image(target, given=True, task=a_task(), index=1, data=b"new", mime_type="image/png")
    assert new == tmp_path / "keep-2.png"
    assert (tmp_path / "keep.png").read_bytes() == b"mine"
    assert write_image(target, given=True, task=a_task(), index=1, data=b"new", mime_type="image/jpeg") == target
    assert target.read_bytes() == b"new", "the name that was given is written over"
    first = write_image(tmp_path, given=True, task=a_task(), index=1, data=b"new", mime_type="image/webp")
    other = write_image(tmp_path, given=True, task=a_task(), index=1, data=b"newer", mime_type="image/webp")
    assert (first.name, other.name) == ("op-x-1.webp", "op-x-1-2.webp")


def test_the_name_of_a_result_follows_the_inputs(tmp_path: Path) -> None:
    assert default_output("https://example.com/a.b.jpg?key=1", a_task()) == Path("a.b-outpainted")
    assert default_output("![x](/p/sea.png)", a_task(image="/p/sea.png")) == Path("sea-outpainted")
    assert default_output("iVBORw0KGgo", a_task(image="data:image/png;sha256=0")) == Path("outpainted")
    assert default_output(None, a_task(task_id="op-y")) == Path("outpainted")
