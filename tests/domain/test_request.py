"""What a client asks for: every argument that reaches a provider is a feature that can be refused."""

import dataclasses
from typing import Any

import pytest

from outpaint_mcp.domain.request import (
    PROVIDER_ARGUMENTS,
    AspectRatio,
    Feature,
    OutpaintRequest,
    ProviderArguments,
    Webhook,
)

VALUES: dict[str, Any] = {"aspect_ratio": AspectRatio(16, 9), "prompt": "a lake", "speed": "fast"}


def test_every_argument_of_a_provider_is_a_feature() -> None:
    names = {one.name for one in dataclasses.fields(ProviderArguments)}
    assert names <= {feature.value for feature in Feature}
    assert set(PROVIDER_ARGUMENTS) == names


@pytest.mark.parametrize("name", VALUES)
def test_what_is_given_is_asked_and_what_is_not_is_not(name: str) -> None:
    assert Feature(name) in OutpaintRequest(**{name: VALUES[name]}).asked()
    assert OutpaintRequest().asked() == {Feature.ZOOM}


def test_the_parts_of_a_webhook_are_asked_for_one_by_one() -> None:
    asked = OutpaintRequest(webhook=Webhook("https://example.com/h", "s", ("completed",))).asked()
    assert {Feature.WEBHOOK_URL, Feature.WEBHOOK_SECRET, Feature.WEBHOOK_EVENTS} <= asked
    assert Feature.WEBHOOK_SECRET not in OutpaintRequest(webhook=Webhook("https://example.com/h")).asked()
