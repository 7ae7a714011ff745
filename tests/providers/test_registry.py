"""The registry: the built-in providers, and what installed packages add."""

import logging
from pathlib import Path

import pytest

from outpaint_mcp.providers.registry import BUILT_IN, ENTRY_POINT_GROUP, provider_classes

PLUGIN = """
from outpaint_mcp.providers import HttpProvider
from outpaint_mcp.providers.legnext import Legnext

class Gateway(Legnext):
    name = "gateway"

class Pretender(Legnext):
    name = "legnext"

class Nameless(HttpProvider):
    title = "Nameless"

class Silent(HttpProvider):
    # Declares everything, and reads no answer.
    name = title = base_url = docs_url = price = image_lifetime = "x"
    key_env = "X"
    sources = ()
    operations = statuses = {}
    first_poll = poll_interval = usual_seconds = 1.0

NOTHING = object()
"""
POINTS = f"""[{ENTRY_POINT_GROUP}]
gateway = gateway_plugin:Gateway
pretender = gateway_plugin:Pretender
nothing = gateway_plugin:NOTHING
nameless = gateway_plugin:Nameless
silent = gateway_plugin:Silent
missing = no_such_module:Thing
"""


def test_the_built_in_providers_come_in_the_order_in_which_they_are_tried() -> None:
    classes = provider_classes()
    hosted = ["fal", "bfl", "bria", "replicate", "stability", "openai"]
    auto = ["comfyui", "sdapi", "iopaint", *hosted, "legnext", "apiframe", "apimart", "vtrix", "piapi", "local"]
    assert list(BUILT_IN) == auto
    assert list(classes)[: len(BUILT_IN)] == list(BUILT_IN)
    assert all(one.name == name for name, one in classes.items())


def test_a_plug_in_is_added_and_a_bad_one_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gateway_plugin.py").write_text(PLUGIN)
    info = tmp_path / "gateway_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))

    with caplog.at_level(logging.WARNING):
        classes = provider_classes()
    assert tuple(classes)[-1] == "gateway"
    assert classes["legnext"].__module__ == "outpaint_mcp.providers.legnext", "a built-in provider cannot be replaced"
    for name in ("pretender", "nothing", "missing"):
        assert name in caplog.text
    assert "plug-in silent lacks parse_fetch" in caplog.text
    (told,) = (line for line in caplog.text.splitlines() if "plug-in nameless lacks" in line)
    for name in ("name", "price", "operations", "key_env", "statuses", "parse_fetch"):
        assert f" {name}" in told
