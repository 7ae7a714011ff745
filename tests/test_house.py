"""The house rules: where things lie, how long files are, and what adding a thing takes, tried on a copy of the tree."""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "outpaint_mcp"
MOST_LINES = 400


def modules(package: Path = PACKAGE) -> list[Path]:
    return sorted(path for path in package.rglob("*.py"))


def test_the_package_folder_holds_few_things() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert folders == {"cli", "domain", "images", "providers", "sandbox", "server", "storage", "tasks", "web"}
    assert files == {"__init__.py", "__main__.py", "bootstrap.py", "py.typed", "settings.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_and_why_it_is_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    says = ast.get_docstring(ast.parse(text)) or ""
    assert len(says.splitlines()[0]) > 12, "it begins with a sentence"
    if text.count("\n") > MOST_LINES:
        assert "One file" in says, f"over {MOST_LINES} lines need a reason in the docstring: One file, since ..."


@pytest.mark.parametrize("folder", sorted(path for path in (ROOT / "tests").iterdir() if path.is_dir()), ids=str)
def test_the_tests_mirror_the_source(folder: Path) -> None:
    # What is about no folder of the source: whole programs, real clients, attackers, every vendor end to end.
    across = {"attacks", "browser", "conformance", "crashes", "frameworks", "replicas", "transports", "vendors"}
    across |= {"node", "snapshots", "__pycache__"}
    assert folder.name in across or (PACKAGE / folder.name).is_dir()


# Adding things, on a copy of the tree


@dataclass
class Copy:
    """A copy of the tree, and which of its files were touched."""

    root: Path
    touched: set[str] = field(default_factory=set)

    def write(self, path: str, text: str) -> None:
        self.touched.add(path)
        (self.root / path).write_text(text, encoding="utf-8")

    def insert(self, path: str, before: str, text: str) -> None:
        """Insert text before the first place where `before` stands."""
        whole = (self.root / path).read_text(encoding="utf-8")
        assert before in whole, f"{path} no longer has {before!r}"
        self.write(path, whole.replace(before, text + before, 1))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), "OUTPAINT_DATA_DIR": str(self.root / "data")}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def passes(self, code: str) -> None:
        done = self.run("-c", code)
        assert done.returncode == 0, done.stderr

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments)


@pytest.fixture
def tree(tmp_path: Path) -> Copy:
    for name in ("src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.db")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "server.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    return Copy(tmp_path)


SRC = "src/outpaint_mcp"
ACME = '''"""Acme, a vendor that there is not."""

from typing import ClassVar

import outpaint_mcp.providers as api


class _Made(api.Answer):
    id: api.Id
    state: api.Text
    url: api.Text = ""


class Acme(api.HttpProvider):
    name = "acme"
    title = "Acme"
    base_url = "https://acme.example"
    key_env = "ACME_TOKEN"
    docs_url = "https://acme.example/docs"
    price = "free"
    image_lifetime = "a day"
    fetch_path = "/made/{id}"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/make",
            source=api.Argument(wire="url"),
            zoom=api.Zoom(1.5, 2.0, wire="factor"),
            arguments={
                api.Feature.PROMPT: api.Argument("any", "what"),
                api.Feature.PROVIDER_OPTIONS: api.Argument("merged into the body"),
            },
            max_url=2000,
        )
    }
    statuses: ClassVar = api.status_words(running="making", succeeded="made", failed="lost")
    first_poll = poll_interval = usual_seconds = 1.0

    def parse_fetch(self, body: object) -> api.TaskUpdate:
        made = self.read_as(_Made, body)
        return self.update(made.state, remote_id=made.id, urls=(made.url,))
'''
REGISTRY_LINE = '    "acme": "outpaint_mcp.providers.acme:Acme",\n'
USE_OF_ACME = """
from outpaint_mcp import Settings
from outpaint_mcp.bootstrap import build_service
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.tasks.resolver import Resolver, Source
import os, anyio
os.environ["ACME_TOKEN"] = "key"
service, _, _ = build_service(Settings())
(acme,) = (one for one in anyio.run(service.list_providers) if one.name == "acme")
assert acme.configured
assert set(acme.features["picture"]) == {"zoom", "prompt", "provider_options"}
provider = service._providers["acme"]
assert provider.reserved_options() == {"url": "image", "factor": "zoom", "what": "prompt"}, provider.reserved_options()
image = InputImage("0" * 64, "image/png", 80, 60, url="https://example.com/a.png")
request = OutpaintRequest(image="https://example.com/a.png", provider="acme", zoom=1.5, prompt="x")
resolver = Resolver(service._providers, auto=(), may_leave=True)
resolver.check(request)
order, _ = resolver.resolve(request, Source(image=image))
assert provider.build_submit(order).json == {"url": "https://example.com/a.png", "factor": 1.5, "what": "x"}
"""


def test_a_provider_takes_its_file_and_a_line_in_the_registry(tree: Copy) -> None:
    tree.write(f"{SRC}/providers/acme.py", ACME)
    tree.insert(f"{SRC}/providers/registry.py", '    "local":', REGISTRY_LINE)
    tree.passes(USE_OF_ACME)
    done = tree.pytest(
        "tests/providers/test_contract.py", "-k", "acme and not published and not mutated and not shapes"
    )
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout
    assert "failed" not in done.stdout, done.stdout
    # Beside its own test, its published answers, and its side of the sandbox with a line in the list there.
    assert tree.touched == {f"{SRC}/providers/acme.py", f"{SRC}/providers/registry.py"}


def test_a_provider_that_is_left_out_of_the_registry_fails_a_test(tree: Copy) -> None:
    tree.write(f"{SRC}/providers/acme.py", ACME)
    done = tree.pytest("tests/providers/test_vendor_files.py", "-k", "registered")
    assert "acme" in done.stdout
    assert "1 failed" in done.stdout


FIELD = """    seamless: Annotated[
        bool | None, Field(description="Whether the sides are to fit together, for a tile")
    ] = None
"""
USE_OF_SEAMLESS = """
from outpaint_mcp.domain.order import Order, Parent
from outpaint_mcp.domain.request import Feature
from outpaint_mcp.providers import HttpClient, UnsupportedFeatureError
from outpaint_mcp.providers.legnext import Legnext
from outpaint_mcp.providers.vtrix import Vtrix
from outpaint_mcp.server.arguments import OutpaintArguments, checked, input_schema
from outpaint_mcp.tasks.resolver import Resolver, Source

assert input_schema(OutpaintArguments)["properties"]["seamless"]["type"] == "boolean"
request = checked(OutpaintArguments, {"task_id": "x", "provider": "legnext", "seamless": True}).request()
assert Feature("seamless") in request.asked()
providers = {one.name: one(HttpClient(), key="key") for one in (Legnext, Vtrix)}
legnext, vtrix = providers["legnext"], providers["vtrix"]
Resolver(providers, auto=(), may_leave=True).check(request)
order = Order("legnext", Parent("x"), zoom=1.5, **request.provider_arguments())
assert legnext.build_submit(order).json["tile"] is True
assert order.identity("local") != Order("legnext", Parent("x"), zoom=1.5).identity("local")
assert Order.from_stored(order.to_stored(), provider="") == order
assert order.shown()["seamless"] is True
assert legnext.reserved_options()["tile"] == "seamless"
assert legnext.limits(order.source.kind)[Feature("seamless")] == "true or false"
try:
    vtrix.check(request, order.source.kind)
except UnsupportedFeatureError as error:
    assert "seamless" in str(error)
else:
    raise AssertionError("it is not refused by who does not have it")
"""


def add_seamless(tree: Copy, *, feature: bool = True) -> None:
    tree.insert(f"{SRC}/server/arguments.py", "    webhook_url: Annotated[", FIELD)
    tree.insert(f"{SRC}/domain/request.py", "    def provider_arguments(self)", "    seamless: bool | None = None\n\n")
    if feature:
        tree.insert(f"{SRC}/domain/request.py", '    WEBHOOK_URL = "webhook_url"', '    SEAMLESS = "seamless"\n')
        declared = '                api.Feature.SEAMLESS: api.Argument("true or false", "tile"),\n'
        tree.insert(f"{SRC}/providers/legnext.py", "                api.Feature.WEBHOOK_URL", declared)


def test_an_argument_takes_the_tool_the_request_and_the_vendors_that_have_it(tree: Copy) -> None:
    add_seamless(tree)
    tree.passes(USE_OF_SEAMLESS)
    shown = tree.run("-m", "outpaint_mcp", "outpaint", "--help")
    assert "--seamless" in shown.stdout, shown.stderr
    assert tree.touched == {f"{SRC}/server/arguments.py", f"{SRC}/domain/request.py", f"{SRC}/providers/legnext.py"}


def test_an_argument_without_a_feature_fails_a_test(tree: Copy) -> None:
    add_seamless(tree, feature=False)
    assert "1 failed" in tree.pytest("tests/domain/test_request.py", "-k", "feature").stdout


def test_an_argument_that_is_kept_out_of_the_identity_fails_a_test(tree: Copy) -> None:
    path = f"{SRC}/domain/order.py"
    tree.insert(path, '"wants_webhook", "webhook"', '"prompt", ')
    done = tree.pytest("tests/domain/test_order.py", "-k", "tells_orders_apart or named_list")
    assert "failed" in done.stdout, done.stdout


def test_a_setting_takes_its_declaration_and_its_user(tree: Copy) -> None:
    declared = '    greeting: str = Field(default="hello", description="What is said first.")\n'
    tree.insert(f"{SRC}/settings.py", "    keep_images_days: float", declared)
    tree.insert(f"{SRC}/bootstrap.py", "    client = HttpClient(observer=observer)\n", "    print(settings.greeting)\n")
    environment = "import os; os.environ['OUTPAINT_GREETING'] = 'good day'"
    use = (
        "from outpaint_mcp import Settings; from outpaint_mcp.bootstrap import build_service; build_service(Settings())"
    )
    assert tree.run("-c", f"{environment}; {use}").stdout == "good day\n"
    assert tree.touched == {f"{SRC}/settings.py", f"{SRC}/bootstrap.py"}
