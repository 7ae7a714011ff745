"""Tasks while the bucket with the images does not answer: what could be lost is not ordered, what is paid not lost."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.domain.bucket_url import BucketUrl
from outpaint_mcp.domain.errors import ProviderUnavailableError
from outpaint_mcp.images.bucket import Bucket
from outpaint_mcp.images.library import ImageLibrary

from ..counting import MovedClock, running, service_over
from ..images.test_library import file_of, serving
from ..s3_server import S3Server
from ..serving import picture
from .test_service import PictureProvider, done, own

RESULT = file_of(size=(40, 30))


@pytest.fixture
def images() -> Iterator[str]:
    """The vendor's image server; its base URL."""
    with serving({"/0.png": RESULT}) as base:
        yield base


async def test_while_the_bucket_is_away_a_finished_task_keeps_its_urls_and_an_own_image_is_not_ordered(
    tmp_path: Path, images: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    url, clock, vendor = BucketUrl(s3_server.new_bucket()), MovedClock(), PictureProvider()

    def library(folder: Path) -> ImageLibrary:
        bucket = Bucket(url, plain_http=True, request_seconds=0.2, least_seconds=0.6)
        return ImageLibrary(folder, roots=(tmp_path,), allow_private=True, bucket=bucket)

    service = service_over(tmp_path, vendor, clock=clock, images=library(tmp_path))
    async with running(service, clock):
        with s3_server.hanging(), anyio.fail_after(20):
            task = await done(service, clock, vendor, f"{images}/0.png")
            with pytest.raises(ProviderUnavailableError, match="Nothing was ordered"):
                await service.outpaint(own(picture(tmp_path)))
        assert task.images[0].url == f"{images}/0.png"
        assert any("could not be copied" in note for note in task.notes)
        assert len(vendor.orders) == 1
        await clock.move(61)
        assert not any("could not be copied" in note for note in (await service.get_task(task.id)).notes)
        await service.outpaint(own(picture(tmp_path)))
        assert len(vendor.orders) == 2
    sha256 = hashlib.sha256(RESULT).hexdigest()
    assert await library(tmp_path / "elsewhere").load(sha256, "image/png") == RESULT
