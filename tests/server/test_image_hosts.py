"""Images at URLs whose hosts answer with something else, through the tool: what is said, and what to do."""

import importlib.metadata
from pathlib import Path

import pytest

from outpaint_mcp import __version__

from ..images.test_fetch import Answer, ok, redirect, serving
from ..serving import connected, picture, settings_for
from .test_app import text_of


async def refused(folder: Path, answer: Answer, *, path: str = "/photo") -> str:
    """The text of the refusal of an image at a host that answers so."""
    async with serving({path: answer}) as server, connected(settings_for(folder, allow_private_urls=True)) as client:
        result = await client.call_tool("outpaint", {"image": server.url(path), "zoom": 1.1})
    assert result.is_error
    return text_of(result)


def typed(body: str, mime_type: str) -> bytes:
    return ok(body.encode(), f"Content-Type: {mime_type}")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (
            typed("<!DOCTYPE html><html><head><title>My  photo &amp; me</title>", "text/html"),
            "a web page (“My photo & me”)",
        ),
        (typed("<html><body>Log in", "image/jpeg"), "a web page"),
        (typed("\n<div>Preview</div>", "text/html; charset=utf-8"), "a web page"),
        (typed(f"<html><title>{'x' * 5000}</title>", "text/html"), f"a web page (“{'x' * 79}…”)"),
        (typed('{"url": "https://example.com/a.png"}', "application/json"), "JSON"),
        (typed('[{"error": 1}]', "text/plain"), "JSON"),
        (typed("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "application/xml"), "an XML document"),
        (typed("<Error><Code>NoSuchKey</Code></Error>", "image/png"), "an XML document"),
    ],
)
async def test_a_document_in_place_of_an_image_is_named(tmp_path: Path, answer: bytes, name: str) -> None:
    assert await refused(tmp_path, answer) == (
        f"[invalid_image] The URL leads to {name} on 127.0.0.1, and not to an image. "
        "Give the direct link to the image itself."
    )


async def test_an_svg_drawing_is_no_document(tmp_path: Path) -> None:
    svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    assert "SVG" in await refused(tmp_path, typed(svg, "image/svg+xml"))


@pytest.mark.parametrize(
    ("status", "header", "advice"),
    [
        (429, "Retry-After: 120", "Try again in 120 seconds"),
        (429, "X-Nothing: 1", "Try again later"),
        (503, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", "Try again in 1 seconds"),
        (503, "Retry-After: soon", "Try again later"),
    ],
)
async def test_a_host_that_is_busy_is_to_be_asked_later(tmp_path: Path, status: int, header: str, advice: str) -> None:
    answer = f"HTTP/1.1 {status} No\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode()
    text = await refused(tmp_path, answer)
    assert f"127.0.0.1 answered HTTP {status}" in text
    assert advice in text


@pytest.mark.parametrize("location", ["/photo", "/photo?again=1"])
async def test_a_redirect_that_waits_for_a_cookie_says_so(tmp_path: Path, location: str) -> None:
    answer = redirect(location).replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=1\r\n\r\n")
    answers: dict[str, Answer] = {"/photo": answer, location: answer}
    async with serving(answers) as server, connected(settings_for(tmp_path, allow_private_urls=True)) as client:
        result = await client.call_tool("outpaint", {"image": server.url("/photo"), "zoom": 1.1})
    assert "redirects until a cookie comes back" in text_of(result)
    assert len(server.requests) <= 2, "it is not gone round and round"


async def test_an_image_with_a_strange_encoding_and_type_is_taken_and_the_host_learns_who_asks(tmp_path: Path) -> None:
    data = picture(tmp_path).read_bytes()
    answer = ok(data, "Content-Encoding: aws-chunked", "Content-Type: text/html")
    async with (
        serving({"/photo": answer}) as server,
        connected(settings_for(tmp_path, allow_private_urls=True)) as client,
    ):
        result = await client.call_tool("outpaint", {"image": server.url("/photo"), "zoom": 1.1, "wait_seconds": 20})
    assert not result.is_error, text_of(result)
    head = server.requests[0].lower()
    assert f"\r\nuser-agent: outpaint-mcp/{__version__}" in head
    for one in importlib.metadata.metadata("outpaint-mcp").get_all("Project-URL") or []:
        assert f"(+{one.partition(', ')[2]})".lower() in head
    assert "\r\naccept: image/jpeg,image/png,image/webp,image/gif,*/*;q=0.1\r\n" in head
