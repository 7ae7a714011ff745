"""Several servers, each with its own data folder, on one database and one bucket: any of them has an image."""

import base64
import contextlib
from pathlib import Path

import httpx2
import psycopg
from mcp_types import BlobResourceContents

from outpaint_mcp.storage.postgres.seal import new_key

from ..images.test_library import DATA_URI, PNG
from ..preloading import Preloaded
from ..s3_server import S3Server
from ..transports.processes import called, http_server, open_vendors, variables


async def test_an_image_that_one_server_took_or_copied_is_read_linked_to_and_extended_at_another(
    tmp_path: Path, preloaded: Preloaded, database_url: str, s3_server: S3Server
) -> None:
    shared = {
        **s3_server.environment,
        "OUTPAINT_DATABASE_URL": database_url,
        "OUTPAINT_SEAL_KEY": new_key(),
        "OUTPAINT_IMAGES_URL": f"s3://{s3_server.new_bucket()}/of/ours",
    }
    order = {"image": DATA_URI, "provider": "fal", "zoom": 1.5, "prompt": "a lake"}
    async with open_vendors() as vendors, contextlib.AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(http_server(variables(tmp_path / name, vendors, **shared), start=preloaded))
            for name in ("first", "second")
        ]
        async with first.client() as client:
            task = await called(client, "outpaint", **order, wait_seconds=0)
            vendors.finish()
            task = await called(client, "get_task", task_id=task["id"], wait_seconds=30)
        assert task["status"] == "succeeded", task
        # Whichever server copied it: now the first is gone with its disk.
        first.signal()
        await first.exit_code()
        (tmp_path / "first").rename(tmp_path / "lost")
        (image,) = task["images"]
        async with second.client() as client:
            (read,) = (await client.read_resource(image["resource_uri"])).contents
            # The original is pasted back, into what is nowhere but in the vendor's answer.
            more = {"task_id": task["id"], "provider": "openai", "zoom": 1.5, "prompt": "more", "wait_seconds": 40}
            further = await called(client, "outpaint", **more)
        assert further["status"] == "succeeded", further
        linked = image["copy_url"].replace(first.base_url, second.base_url)
        async with httpx2.AsyncClient() as web:
            shown = await web.get(linked)
        assert (shown.status_code, shown.headers["content-type"]) == (200, image["mime_type"])
        assert isinstance(read, BlobResourceContents)
        assert base64.b64decode(read.blob) == shown.content != PNG
    with psycopg.connect(database_url) as connection:
        rows = str(connection.execute("SELECT tasks::text FROM tasks").fetchall())
    assert task["id"] in rows
    assert "stored:" in rows
    assert str(tmp_path) not in rows
