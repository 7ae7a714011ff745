"""Addresses of images that several servers share: one signs, another gives the image out."""

import pytest

from outpaint_mcp.domain.errors import ConfigurationError, UnknownTaskError
from outpaint_mcp.storage.postgres.seal import new_key
from outpaint_mcp.tasks.image_links import ImageLinks, shared_keys

TASK = "op-" + "a" * 22


def links(seal_keys: str) -> ImageLinks:
    return ImageLinks("https://outpaint.example", *shared_keys(seal_keys))


def judged(seal_keys: str, url: str) -> tuple[str, int]:
    return links(seal_keys).judged(*url.removeprefix("https://outpaint.example/images/").split("/"))


def test_an_address_is_valid_at_every_server_with_the_key_and_for_its_day_after_a_new_one_came() -> None:
    old, new = new_key(), new_key()
    url = links(old).url(TASK, 2, "image/png")
    for keys in (old, f"{new},{old}", f"{new}, {old}\n"):
        assert judged(keys, url) == (TASK, 2)
    with pytest.raises(UnknownTaskError):
        judged(new, url)
    assert judged(new, links(f"{new},{old}").url(TASK, 1, "image/png")) == (TASK, 1), "the first one signs"


@pytest.mark.parametrize("keys", ["", "secret", "c2VjcmV0", "é", "A" * 43 + "=,"])
def test_a_key_that_could_be_guessed_signs_nothing(keys: str) -> None:
    with pytest.raises(ConfigurationError, match=r"OUTPAINT_SEAL_KEY is no key\."):
        shared_keys(keys)
