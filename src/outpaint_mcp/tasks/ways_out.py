"""What a refused request could be instead: what to leave out of it, and who can do it as it is. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.request import PROVIDER_ARGUMENTS, Feature, OutpaintRequest, SourceKind
from outpaint_mcp.providers.base import Provider

Check = Callable[[Provider, OutpaintRequest], None]
"""Raises an `OutpaintError` if the provider cannot do what is asked. Whether it is configured is another question."""


def sift(
    providers: Iterable[Provider], request: OutpaintRequest, check: Check
) -> tuple[list[Provider], dict[str, OutpaintError]]:
    """Those that can do what is asked, configured or not, and why the others cannot."""
    able: list[Provider] = []
    refusals: dict[str, OutpaintError] = {}
    for provider in providers:
        try:
            check(provider, request)
        except OutpaintError as error:
            refusals[provider.name] = error
        else:
            able.append(provider)
    return able, refusals


def named(providers: Iterable[Provider]) -> str:
    """Providers by name, each with the keys that it still needs."""
    return ", ".join(one.name + (f" (needs {', '.join(one.needs)})" if one.needs else "") for one in providers)


def left_out(provider: Provider, request: OutpaintRequest, kind: SourceKind, check: Check) -> tuple[str, ...]:
    """The arguments without which a provider can do what is asked; none if that does not help."""
    try:
        missing = provider.missing(request, kind)
    except OutpaintError:
        missing = []
    # Another provider's options say nothing here.
    options = [Feature.PROVIDER_OPTIONS] * bool(request.provider_options)
    for features in (missing, [*dict.fromkeys([*missing, *options])]):
        if features and sift([provider], _without(request, features), check)[0]:
            return tuple(feature.value for feature in features)
    return ()


def least_left_out(
    providers: Iterable[Provider], request: OutpaintRequest, check: Check
) -> tuple[Provider | None, tuple[str, ...]]:
    """The provider that could extend your own image without the fewest arguments, the first of several; and these."""
    found = [(one, names) for one in providers if (names := left_out(one, request, SourceKind.IMAGE, check))]
    return min(found, key=lambda each: len(each[1]), default=(None, ()))


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _without(request: OutpaintRequest, features: Iterable[Feature]) -> OutpaintRequest:
    for feature in features:
        webhook = request.webhook
        changes: dict[str, Any] = {}
        if feature.value in PROVIDER_ARGUMENTS:
            changes = {feature.value: None}
        elif feature is Feature.PROVIDER_OPTIONS:
            changes = {"provider_options": {}}
        elif feature is Feature.WEBHOOK_URL:
            changes = {"webhook": None}
        elif feature is Feature.WEBHOOK_SECRET and webhook is not None:
            changes = {"webhook": replace(webhook, secret=None)}
        elif feature is Feature.WEBHOOK_EVENTS and webhook is not None:
            changes = {"webhook": replace(webhook, events=())}
        request = replace(request, **changes)
    return request
