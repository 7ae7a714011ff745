"""A finished task whose image URLs are not clean: the paid image is told, and what cannot be opened is told as text."""

from pathlib import Path

import anyio
import pytest
from mcp import Client

from ..vendors.service_at_sandbox import ENGINES, POLLED, ServiceAtSandbox, arguments_for, service_at_sandbox
from .test_prompts import client_at

# What engines draw is fetched from them here, and has no URL of theirs.
BY_URL = tuple(name for name in POLLED if name not in ENGINES)
UNCLEAN = (
    (" {url}\n", "{url}"),
    ("{url}?as=my lake \u6e56.png", "{url}?as=my%20lake%20%E6%B9%96.png"),
    ("\t{rest} ", "https:{rest}"),
)


async def told_by(client: Client, at: ServiceAtSandbox, vendor: str) -> dict[str, object]:
    arguments = {**arguments_for(vendor, at.folder), "wait_seconds": 10, "repeat": True}
    result = await client.call_tool("outpaint", arguments)
    assert not result.is_error, result.content
    task = result.structured_content
    with anyio.fail_after(20):
        while task["status"] in ("queued", "running"):
            task = (await client.call_tool("get_task", {"task_id": task["id"], "wait_seconds": 5})).structured_content
    assert isinstance(task, dict)
    return task


@pytest.mark.parametrize("vendor", BY_URL)
async def test_an_unclean_url_hides_no_paid_image(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        for given, wanted in UNCLEAN:
            at.sandbox.faults.clear()
            at.fault(vendor, "poll", "image_urls", word=given, times=None)
            task = await told_by(client, at, vendor)
            images = task["images"]
            assert task["status"] == "succeeded"
            assert isinstance(images, list)
            assert images
            scheme, _, rest = wanted.partition("{url}") if "{url}" in wanted else wanted.partition("{rest}")
            for image in images:
                assert image["url"].startswith(f"{scheme or 'http:'}//127.0.0.1:")
                assert image["url"].endswith(rest)
                assert image["url"].isascii()
                assert not set(image["url"]) & set(" \n\t")


@pytest.mark.parametrize("vendor", BY_URL)
async def test_a_word_in_place_of_the_urls_is_told_with_the_tasks_end(tmp_path: Path, vendor: str) -> None:
    async with service_at_sandbox(tmp_path) as at, client_at(at) as client:
        at.fault(vendor, "poll", "image_urls", word="image-4711.png", times=None)
        task = await told_by(client, at, vendor)
    assert (task["status"], task["images"]) == ("succeeded", [])
    assert "image-4711.png" in str(task["notes"])
    assert "none of its images can be opened" in str(task["next"])
