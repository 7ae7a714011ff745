"""How the sandbox reads what clients hand over: images by URL or within a body, and forms."""

import base64
import io
import os

import httpx2
import pytest
from PIL import Image
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outpaint_mcp.sandbox.image_store import ImageStore
from outpaint_mcp.sandbox.vendors.bodies import Body, MalformedBodyError, RejectedError, parse_form
from outpaint_mcp.sandbox.vendors.input_images import InputImages


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def test_an_image_is_read_from_its_url_a_data_uri_or_base64_where_that_is_taken() -> None:
    served = httpx2.MockTransport(lambda request: httpx2.Response(200, content=png()))
    store = ImageStore(None, max_side=100, max_files=5)
    images = InputImages(store, lambda: httpx2.AsyncClient(transport=served))
    text = base64.b64encode(png()).decode()
    found = [
        await images.read("http://127.0.0.1/a.png"),
        await images.read(f"data:image/png;base64,{text}"),
        await images.read(text, bare=True),
    ]
    assert {(one.image.key, one.width, one.height) for one in found} == {(found[0].image.key, 6, 4)}
    assert await images.bytes_of(found[0].image) == (png(), "image/png")
    for bad in (text, "data:text/plain;base64,aGk=", "data:image/png;base64,*", "https://elsewhere.example/a.png"):
        with pytest.raises(RejectedError):
            await images.read(bad)
    store.close()


async def test_an_image_that_comes_again_is_whole_for_who_reads_it_meanwhile() -> None:
    store = ImageStore(None, max_side=100, max_files=5)
    stored = await store.store(png())
    path = await store.file(stored.image)
    with path.open("rb") as being_read:
        await store.store(png())
        assert being_read.read() == png()
        assert path.stat().st_ino != os.fstat(being_read.fileno()).st_ino, "another file took its place"
    store.close()


class _Form(Body):
    left: int = Field(ge=0, le=10)
    prompt: str = ""


async def _answer(request: Request) -> Response:
    try:
        form, files = await parse_form(_Form, request, ("image",))
    except MalformedBodyError as error:
        return JSONResponse([str(problem) for problem in error.problems], 400)
    return JSONResponse([form.left, form.prompt, files["image"].decode()])


async def test_a_form_is_its_texts_by_their_types_and_its_files() -> None:
    app = Starlette(routes=[Route("/", _answer, methods=["POST"])])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sandbox") as client:

        async def sent(data: dict[str, str], *files: str) -> httpx2.Response:
            return await client.post("/", data=data, files=[(name, (name, b"bytes")) for name in files])

        assert (await sent({"left": "3", "prompt": "7"}, "image")).json() == [3, "7", "bytes"]
        bad = [
            await sent({"left": "3.5"}, "image"),
            await sent({"left": "11"}, "image"),
            await sent({"left": "3", "right": "3"}, "image"),
            await sent({"left": "3"}, "image", "image"),
            await sent({"left": "3"}, "prompt"),
            await sent({"left": "3", "image": "text"}, "other"),
            await client.post("/", json={"left": 3}),
        ]
    assert [(one.status_code, len(one.json())) for one in bad] == [(400, 1)] * len(bad)
