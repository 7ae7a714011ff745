"""Our own names of tasks and images, as they come back: ids, resources and the paths of results."""

import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from mcp import Client

from ..serving import connected, picture, settings_for
from .test_app import text_of

pytestmark = pytest.mark.usefixtures("decoded_here")


async def grid(client: Client, folder: Path) -> dict[str, Any]:
    """A finished task of two images that differ: texture is drawn anew for each, plain ground is not."""
    textured = folder / "textured.png"
    PIL.Image.effect_noise((64, 48), 90).convert("RGB").save(textured)
    order = {"image": str(textured), "zoom": 1.25, "provider_options": {"variants": 2, "quality": "fast"}}
    task: dict[str, Any] = (await client.call_tool("outpaint", order)).structured_content
    return task


async def test_every_name_of_an_image_of_a_task_is_that_image(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        task = await grid(client, tmp_path)
        image, id_ = task["images"][1], task["id"]
        plain = {"task_id": id_, "image_index": 2, "zoom": 1.5}
        first = (await client.call_tool("outpaint", plain)).structured_content
        for named in (
            {"image": image["resource_uri"]},
            {"image": f"<{image['resource_uri']}>\n"},
            {"image": image["url"]},
            {"image": image["url"].removeprefix("file://")},
            {"image": f"`{image['url']}`", "image_index": 2},
            {"image": f'"{id_}"', "image_index": 2},
            {"image": image["resource_uri"], "task_id": id_},
            {"task_id": image["resource_uri"]},
            {"task_id": f"{id_}-2"},
            {"image": f"{id_}/images/2"},
            {"task_id": f"outpaint://tasks/{id_}", "image_index": "2"},
            {"task_id": f"\u201c{id_}\u201d.", "image_index": 2},
        ):
            again = await client.call_tool("outpaint", {**named, "zoom": 1.5})
            assert not again.is_error, (named, text_of(again))
            assert again.structured_content["id"] == first["id"], named
            assert again.structured_content["request"] == first["request"], named


async def test_a_task_is_found_by_whatever_is_written_around_its_id(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        task = await grid(client, tmp_path)
        for written in (
            "{}\n",
            "`{}`",
            '"{}"',
            "'{}'.",
            "<{}>",
            "**{}**",
            "\u00a0{}\r\n",
            "({})",
            "outpaint://tasks/{}/",
            "Task {} (local): succeeded",
            "\u200b{}",
            "task_id={}",
        ):
            found = await client.call_tool("get_task", {"task_id": written.format(task["id"])})
            assert found.structured_content["id"] == task["id"], written
        image = await client.call_tool("get_task", {"task_id": task["images"][0]["resource_uri"]})
        assert image.structured_content["id"] == task["id"]


async def test_a_name_that_contradicts_what_else_is_given_is_refused(tmp_path: Path) -> None:
    async with connected(settings_for(tmp_path)) as client:
        task = await grid(client, tmp_path)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"image_index": 1}, "contradicts image_index"),
            ({"task_id": "op-another"}, "name two tasks"),
            ({"image": f"outpaint://tasks/{task['id']}/images/9"}, "no image of a task"),
            ({"image": "outpaint://providers"}, "for the image of a task its task_id"),
            ({"image": f"outpaint://tasks/{task['id']}"}, "Give image_index"),
        ]
        for changes, told in cases:
            call = {"image": task["images"][1]["resource_uri"], "zoom": 1.5, **changes}
            result = await client.call_tool("outpaint", call)
            assert result.is_error, changes
            assert told in text_of(result), changes


async def test_a_results_path_is_its_task_and_opens_no_other_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "pictures"
    elsewhere.mkdir()
    async with connected(settings_for(tmp_path, file_roots=(elsewhere,))) as client:
        order = {"image": str(picture(elsewhere)), "zoom": 1.25}
        task = (await client.call_tool("outpaint", order)).structured_content
        url = task["images"][0]["url"]
        taken = (await client.call_tool("outpaint", {"image": url, "zoom": 1.5})).structured_content
        assert taken["request"]["task_id"] == task["id"]
        # An image of nobody's task in the same folder, and one of another folder.
        path = Path(url.removeprefix("file://"))
        other, moved = path.with_name(f"{'0' * 64}.png"), tmp_path / path.name
        for target in (other, moved):
            shutil.copy(path, target)
            refused = await client.call_tool("outpaint", {"image": str(target), "zoom": 1.5})
            assert text_of(refused).startswith("[forbidden_url] "), target
