"""What fails while the server runs, as a client meets it."""

import contextlib
import shutil
import traceback
from pathlib import Path

import pytest
from mcp_types import TextContent

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.task import Status
from outpaint_mcp.server.lazy_service import LazyService
from outpaint_mcp.tasks.service import Service

from ..serving import connected, picture, settings_for

pytestmark = pytest.mark.usefixtures("decoded_here")


@pytest.mark.parametrize("replaced", [False, True])
async def test_orders_are_refused_once_the_data_folder_is_gone_or_another(tmp_path: Path, replaced: bool) -> None:
    settings = settings_for(tmp_path)
    order = {"image": str(picture(tmp_path)), "zoom": 1.5}
    async with connected(settings) as client:
        assert not (await client.call_tool("outpaint", order)).is_error
        if replaced:
            async with open_service(settings_for(tmp_path, data_dir=tmp_path / "other")) as service:
                await service.check()
        shutil.rmtree(settings.data_dir)
        if replaced:
            (tmp_path / "other").rename(settings.data_dir)
        refused = await client.call_tool("outpaint", order | {"zoom": 1.2})
    (text,) = refused.content
    assert refused.is_error
    assert isinstance(text, TextContent)
    assert text.text.startswith("[configuration] The store store.db was deleted or replaced")
    assert "restart the server" in text.text


async def test_a_progress_callback_that_fails_costs_no_result(tmp_path: Path) -> None:
    async def fail(percent: float, message: str) -> None:
        raise ValueError("nobody listens")

    async with open_service(settings_for(tmp_path)) as service:
        request = OutpaintRequest(image=str(picture(tmp_path, width=300, height=200)), zoom=1.5)
        task = await service.outpaint(request, wait_seconds=45, on_progress=fail)
    assert task.status is Status.SUCCEEDED


async def test_the_error_of_a_service_that_does_not_open_stays_the_same_size() -> None:
    def refuse() -> contextlib.AbstractAsyncContextManager[Service]:
        raise ConfigurationError("A setting is wrong.")

    lazy = LazyService(refuse)
    sizes = set()
    async with lazy.running():
        for _ in range(3):
            with pytest.raises(OutpaintError) as failed:
                await lazy.get()
            sizes.add(len(traceback.extract_tb(failed.value.__traceback__)))
    assert len(sizes) == 1
