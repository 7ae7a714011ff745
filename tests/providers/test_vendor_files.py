"""The files of the providers: each is registered, imports nothing but the contract, and the contract is committed."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import outpaint_mcp.providers as api
from outpaint_mcp import providers
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers import contract
from outpaint_mcp.providers.base import Provider
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.providers.registry import BUILT_IN

EXPORTED = Path(__file__).with_name("exported_names.txt")
ALLOWED = {f"outpaint_mcp.providers{name}" for name in ("", ".sdcpp", ".upload_paint")}
"""What a vendor's file may import from the program."""


def modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(providers.__path__, f"{providers.__name__}.")
    # The worker's module is a program.
    return [importlib.import_module(one.name) for one in found if not one.name.endswith(".worker")]


def named_providers(module: ModuleType) -> list[str]:
    """Where the providers stand that a module defines: classes with a name of their own."""
    return [
        f"{module.__name__}:{name}"
        for name, one in vars(module).items()
        if isinstance(one, type)
        and issubclass(one, Provider)
        and one.__module__ == module.__name__
        and isinstance(getattr(one, "name", None), str)
    ]


def foreign_imports(source: str, folder: str = "nowhere") -> list[str]:
    """What a vendor's file imports from the program besides `ALLOWED`, and the others of its own `folder`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    ours = [name for name in names if name.startswith(("outpaint_mcp", ".")) and name not in ALLOWED]
    return [name for name in ours if name != folder and not name.startswith(f"{folder}.")]


def test_every_provider_in_the_folder_is_registered() -> None:
    found = [place for module in modules() for place in named_providers(module)]
    assert sorted(found) == sorted(BUILT_IN.values())


class Stray(Provider):
    name = "stray"

    async def start(self, order: Order) -> TaskUpdate:
        raise NotImplementedError

    async def poll(self, remote_id: str, reference: str | None = None) -> TaskUpdate:
        raise NotImplementedError


class Base(HttpProvider):
    """Has no name, so it is no provider yet."""


def test_a_provider_that_is_not_registered_would_be_found_and_a_base_class_would_not() -> None:
    this = importlib.import_module(__name__)
    assert named_providers(this) == [f"{__name__}:Stray"]


def test_a_vendors_file_imports_from_the_program_only_the_contract() -> None:
    for place in BUILT_IN.values():
        module = importlib.import_module(place.partition(":")[0])
        if issubclass(getattr(module, place.partition(":")[2]), HttpProvider):
            package = module.__name__.rpartition(".")[0]
            folder = "nowhere" if package == providers.__name__ else package
            assert foreign_imports(inspect.getsource(module), folder) == [], place


def test_an_import_from_elsewhere_would_be_found() -> None:
    source = """
import outpaint_mcp.providers as api
from outpaint_mcp.providers.upload_paint import paint_operation
from outpaint_mcp.domain.order import Order
import outpaint_mcp.tasks.service
from . import piapi
def late():
    from .answers import Answer
"""
    assert foreign_imports(source) == ["outpaint_mcp.domain.order", "outpaint_mcp.tasks.service", ".", ".answers"]


def test_the_exported_names_are_the_committed_ones_and_each_can_be_had() -> None:
    names = EXPORTED.read_text(encoding="utf-8").split()
    assert names == sorted(names, key=str.lower)
    assert sorted(contract.__all__, key=str.lower) == names, f"changed on purpose? then write it into {EXPORTED.name}"
    for name in names:
        assert getattr(api, name) is vars(contract)[name]
    public = {name for name, it in vars(contract).items() if not name.startswith("_") and not inspect.ismodule(it)}
    assert public == set(names)
