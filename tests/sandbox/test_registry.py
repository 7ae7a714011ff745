"""The one list of the sandbox's vendors, and what follows from it."""

import importlib
import pkgutil
from typing import get_args

import pytest
from pydantic import ValidationError

from outpaint_mcp.sandbox import SEEDS, VENDORS, Fault, Sandbox, SandboxSettings, environment, seed_id, vendors
from outpaint_mcp.sandbox.vendors.base import Action, Vendor


def vendor_classes() -> set[type[Vendor]]:
    """Every vendor's class in the folder, registered or not."""
    modules = [
        importlib.import_module(f"{vendors.__name__}.{found.name}") for found in pkgutil.iter_modules(vendors.__path__)
    ]
    members = [member for module in modules for member in vars(module).values()]
    return {one for one in members if isinstance(one, type) and issubclass(one, Vendor) and one is not Vendor}


def test_every_vendors_file_is_registered_under_its_name() -> None:
    assert set(VENDORS.values()) == vendor_classes()
    assert all(name == vendor.name == vendor.__module__.rpartition(".")[2] for name, vendor in VENDORS.items())


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_registered_vendor_has_seeds_settings_and_faults(vendor: str) -> None:
    base_url = f"http://127.0.0.1:9/{vendor}"
    assert VENDORS[vendor].environment(base_url).items() <= environment("http://127.0.0.1:9").items()
    assert base_url in environment("http://127.0.0.1:9").values()
    assert {seed.vendor for seed in VENDORS[vendor].seeds} <= {vendor}
    for grid in (True, False) if VENDORS[vendor].seeds else ():
        assert seed_id(vendor, grid=grid) in {seed.id for seed in SEEDS}
    assert Fault(vendor=vendor, on="submit", fault="drop").vendor == vendor


def test_a_vendor_that_is_not_registered_has_neither_seeds_nor_faults() -> None:
    with pytest.raises(KeyError):
        seed_id("midjourney", grid=True)
    with pytest.raises(ValidationError, match="must be one of piapi, "):
        Fault(vendor="midjourney", on="submit", fault="drop")


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_a_request_is_for_follows_from_its_endpoint_whatever_its_method_and_body(vendor: str) -> None:
    side = Sandbox(SandboxSettings()).vendors[vendor]
    bodies: tuple[object, ...] = (None, [], {"model": [], "action": 1, "task_type": None})
    for operation in side.operations():
        path = operation.path.replace("{id}", "an-id")
        for body in bodies:
            found = side.classify(operation.method, path, body)
            assert found in get_args(Action)
            assert callable(operation.action) or found == operation.action
        assert side.classify("PATCH", path, None) in get_args(Action)
    assert side.classify("GET", "/nowhere", None) is None
