"""The address in what was written around it, and what is ambiguous."""

import base64
import time

import pytest

from outpaint_mcp.domain.errors import ForbiddenUrlError, InvalidImageError
from outpaint_mcp.images.paths import meant

URL = "https://example.com/a_(1).png?b=1&c=2"
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(40)).decode()


@pytest.mark.parametrize(
    "wrapped",
    [
        "![a photo]({})",
        '![]( {} "a title" )',
        "Here it is: ![a](<{}>).",
        "[the photo]({})",
        "[photo]: {}",
        "[![thumb]({})](https://example.com/page)",
        "<img alt='a > b' src=\"{}\" width=3>",
        "<IMG SRC={}>",
        "<a href='https://example.com/page'><img src='{}'></a>",
        "<{}>",
        "<{}|photo.png>",
        "`{}`",
        "\u201c{}\u201d",
        "```\n{}\n```",
        "The photo: {}.",
        "(see {})",
        "[img]{}[/img]",
        '{{"type": "image_url", "image_url": {{"url": "{}", "detail": "high"}}}}',
        '["{}"]',
        '{{"imageUrl": "{}", "alt": "a lake"}}',
        "<image>\n<url>{}</url>\n</image>",
        "{{'url': '{}'}}",
    ],
)
def test_an_address_is_found_in_what_is_around_it(wrapped: str) -> None:
    assert meant(wrapped.format(URL), ()).ref == URL


def test_entities_and_escapes_are_undone() -> None:
    assert meant(f'<img src="{URL.replace("&", "&amp;")}">', ()).ref == URL
    assert meant(f'{{"url": "{URL.replace("/", chr(92) + "/")}"}}', ()).ref == URL


@pytest.mark.parametrize(
    ("wrapped", "path"),
    [
        ("![[sea side.png]]", "sea side.png"),
        ("![a](sea side.png 'title')", "sea side.png"),
        ('<image src="/p/a.png"/>', "/p/a.png"),
        ('{"image_path": "/p/a.png"}', "/p/a.png"),
        ("Here: data:image/png;base64,iVBO", "data:image/png;base64,iVBO"),
        ("https%3A%2F%2Fexample.com%2Fa.png", "https://example.com/a.png"),
    ],
)
def test_paths_and_data_are_found_too(wrapped: str, path: str) -> None:
    assert meant(wrapped, ()).ref == path


@pytest.mark.parametrize(
    "text", ["![a]( x" + " " * 7900, "[[a" * 2600, " http://x" + ")" * 7900, "image" + "1" * 290 + "x", "[" * 100_000]
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    meant(text, ())
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [f"{URL} ", "https://a.example and https://b.example", "photo.png", "/9j/a.png", "[1] a.png", '{"a": 1}', ""],
)
def test_what_is_no_wrapper_stays_as_it_is(text: str) -> None:
    assert meant(text, ()).ref == text


@pytest.mark.parametrize("text", [f"{URL[1:]} https://a.example https://b.example", "![](a.png) ![](b.png)"])
def test_several_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidImageError, match="holds 2 addresses"):
        meant(text, ())


@pytest.mark.parametrize("before", ["", "image/jpeg;base64,", "base64,", "BASE64:"])
def test_bare_base64_of_an_image_is_data(before: str) -> None:
    assert meant(before + JPEG, ()).ref == f"data:;base64,{JPEG}"
    assert meant(
        f'{{"type": "image", "source": {{"media_type": "image/jpeg", "data": "{before}{JPEG}"}}}}', ()
    ).ref.endswith(JPEG)


@pytest.mark.parametrize(
    "name",
    [
        "[Image #1]",
        "<image>",
        "{{image_url}}",
        "the attached image",
        "input_image",
        "file-abc123",
        "attachment:a.png",
        "attachment://a.png",
        "sandbox:/mnt/data/a.png",
        "computer:///mnt/user-data/a.png",
        "YOUR_IMAGE_URL_HERE",
        "/mnt/data/a.png",
        "blob:https://example.com/1",
    ],
)
def test_a_name_that_only_a_chat_knows_is_refused_with_what_to_give(name: str) -> None:
    with pytest.raises((InvalidImageError, ForbiddenUrlError)) as refused:
        meant(name, ())
    assert "http(s) URL" in refused.value.advice
