"""What must not reach a Midjourney prompt, in whatever form it is written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.providers.midjourney import check_options, check_prompt

DASHES = ["--", "\u2014", "\u2013", "\u2013\u2013", "\u2212\u2212", "\uff0d\uff0d", "-\u200b-", "\u2010\u2010", "---"]
PARAMETERS = {
    "repeat": "billed",
    "r": "billed",
    "ar": "aspect_ratio",
    "aspect": "aspect_ratio",
    "aspect-ratio": "aspect_ratio",
    "zoom": "zoom",
    "v": "image that is extended",
    "version": "image that is extended",
    "niji": "image that is extended",
    "fast": "speed",
    "turbo": "speed",
}


@given(
    name=st.sampled_from(list(PARAMETERS)),
    dashes=st.sampled_from(DASHES),
    before=st.sampled_from(["", "a lake ", "a lake", "a lake,", "a lake\n", "--raw "]),
    between=st.sampled_from(["", " ", "=", ":", "\u3000"]),
    case=st.sampled_from([str.lower, str.upper, str.title]),
)
def test_a_parameter_is_refused_however_it_is_written(
    name: str, dashes: str, before: str, between: str, case: Any
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_prompt(f"{before}{dashes}{case(name)}{between}2")
    assert PARAMETERS[name] in str(refused.value)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a lake --fast", "speed"),
        ("a lake\u2014turbo", "speed"),
        ("a lake -- repeat 3", "billed"),
        ("a lake \u2014 ar 16:9", "aspect_ratio"),
        ("a lake --rep 3", "billed"),
        ("\uff0d\uff0d\uff41\uff52 1:2", "aspect_ratio"),
        ("a {red,green,yellow} bird", "{red,green,yellow}"),
        ("a {red {wooden, old}} house", "{wooden, old}"),
        ("a \\\\{red,green} bird", "billed"),
        ("   ", "blank"),
        ("\u3000\u2028\u00a0", "blank"),
        ("\u200b\ufeff", "blank"),
        ("a\x00b", "U+0000"),
        ("a\x1bb", "U+001B"),
        ("a\x9bb", "U+009B"),
    ],
)
def test_what_says_nothing_or_is_billed_several_times_is_refused(prompt: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_prompt(prompt)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "prompt",
    [
        "a lake",
        "a lake\n\tat dusk",
        "a lake -- zoom in on the boats",
        "a harbour\u2014fast boats far away",
        "a lake \u2014 version of a dream",
        "1990\u20132000, sci-fi, well-r",
        "a {red} bird, and a \\{red, green\\} one",
        "{pastel\\, or blue}",
        "--raw --s 50 --no text, people --seed 4 --chaos 3 --style raw --tile",
        "a family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    ],
)
def test_what_is_text_or_a_parameter_of_its_own_is_taken(prompt: str) -> None:
    check_prompt(prompt)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "a lake"},
        {"remixPrompt": "a lake"},
        {"--ar": "1:1"},
        {"aspectRatio": "1:1"},
        {"repeat": 3},
        {"extra": ["a lake --repeat 3"]},
        {"extra": {"deeper": "a {red,green} bird"}},
        {"extra": {"a \u2014r 3": 1}},
    ],
)
def test_options_are_no_way_round(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        check_options(options)


def test_options_that_are_no_prompt_are_taken() -> None:
    check_options({"skip_prompt_check": True, "custom_id": "MJ::Outpaint::50::1::89a1-e3::SOLO", "seed": 3})
    check_options({"metadata": "order --r 3 {a,b}"})
