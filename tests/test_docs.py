"""The documentation: the built site asks no other host for anything, its links lead somewhere; examples are true."""

import ast
import functools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from outpaint_mcp.cli.clients import CLIENTS
from outpaint_mcp.cli.main import parser_for
from outpaint_mcp.cli.options import given_arguments
from outpaint_mcp.domain.errors import InvalidRequestError
from outpaint_mcp.providers import HttpProvider, provider_classes
from outpaint_mcp.server.arguments import OutpaintArguments, checked
from outpaint_mcp.settings import Settings, VendorSettings, child_environment

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "examples").glob("*.md")],
    key=lambda page: str(page.relative_to(PROJECT)),
)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))

# The site


class BuiltPage(HTMLParser):
    """What a page links to, what a browser fetches for it by itself, its anchors, and its paragraphs' text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.text: list[str] = []
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
        else:
            self.fetched += [given[name] for name in ("src", "href", "data", "poster", "action") if name in given]
            self.fetched += re.findall(r"url\(([^)]*)\)", given.get("style", ""))
        if tag in ("p", "td", "li", "pre", "code", "script", "style"):
            self._within.append(tag)
        # GitHub's statistics, which the theme's own script fetches for such an element.
        assert given.get("data-md-component") != "source"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            while self._within.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._within and self._within[-1] in ("p", "td", "li"):
            self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**child_environment(), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@functools.cache
def built(path: Path) -> BuiltPage:
    return BuiltPage(path.read_text(encoding="utf-8"))


def built_pages(site: Path) -> Iterator[tuple[Path, BuiltPage]]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > len(list((PROJECT / "docs").glob("*.md")))  # 404.html too
    for path in found:
        yield path, built(path)


def test_no_page_of_the_site_asks_another_host_for_anything(site: Path) -> None:
    for path, page in built_pages(site):
        assert [url for url in page.fetched if urlsplit(url).netloc] == [], path
    for sheet in site.rglob("*.css"):
        fetched = re.findall(r"url\(\s*['\"]?([^)'\"]*)|@import\s+['\"]([^'\"]*)", sheet.read_text(encoding="utf-8"))
        assert [url for pair in fetched for url in pair if urlsplit(url).netloc] == [], sheet


def test_every_link_within_the_site_leads_to_a_page_and_an_anchor_on_it(site: Path) -> None:
    for path, page in built_pages(site):
        for url in (*page.links, *page.fetched):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                assert parts.scheme in ("https", "http", "data"), url
                continue
            # 404.html is served anywhere, and names everything from the root.
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path not in ("", ".") else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {url}"
            if parts.fragment and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in built(target).anchors, f"{path.relative_to(site)}: {url}"


def test_no_markdown_is_left_in_the_text_of_the_site(site: Path) -> None:
    """What GitHub understands and the site's Markdown does not: a list that follows a line, a fence within one."""
    for path, page in built_pages(site):
        text = "".join(page.text)
        left = re.search(r"```|\]\(|^\s*([-*]|\d+\.) |^\s*\||\*\*|\[!|^\s*#+ ", text, re.MULTILINE)
        assert left is None, f"{path.relative_to(site)}: {text[left.start() :][:80]!r}"


# The examples


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in these languages."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^[ ]*```[ ]*$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, one, code in found if one in languages]


def compiled(code: str) -> object:
    # An example may stand for the inside of an async function.
    return compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@every_page
@pytest.mark.parametrize(
    ("language", "read"),
    [("json", json.loads), ("toml", tomllib.loads), ("python", compiled)],
    ids=["json", "toml", "python"],
)
def test_every_example_in_this_language_can_be_read(page: Path, language: str, read: Callable[[str], object]) -> None:
    for code in blocks(page, language):
        read(code)


def commands_in(lines: list[str]) -> Iterator[list[str]]:
    """The arguments of every `outpaint-mcp` in these lines for a shell."""
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        redirected = False
        for word in (*lexer, ";"):
            if set(word) <= set(";&|()"):
                at = [index for index, one in enumerate(command) if Path(one).name == "outpaint-mcp"]
                if at:
                    yield command[at[-1] + 1 :]
                command = []
            elif not redirected and not set(word) <= set("<>&"):
                command.append(word)
            redirected = set(word) <= set("<>&")


def parse(arguments: list[str]) -> None:
    if "--help" in arguments or "--version" in arguments:
        return
    options = parser_for(arguments).parse_args(arguments)
    if "outpaint" in arguments[:1]:
        given = given_arguments(options, OutpaintArguments)
        given["provider_options"] = dict(one.split("=", 1) for one in given.pop("provider_options", ()))
        checked(OutpaintArguments, given)
    if "install" in arguments[:1]:
        assert options.client in {*CLIENTS, "CLIENT"}, arguments


@every_page
def test_every_command_line_of_ours_can_be_parsed(page: Path) -> None:
    code = "\n".join(blocks(page, "sh"))
    session = re.findall(r"^\$ (.*(?:\\\n.*)*)", "\n".join(blocks(page, "console")), re.MULTILINE)
    for arguments in commands_in([*code.replace("\\\n", " ").splitlines(), *session]):
        parse(arguments)
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for arguments in commands_in(re.findall(r"`(outpaint-mcp(?: [^`]*)?)`", prose)):
        try:
            parse(arguments)
        except InvalidRequestError as error:
            if "are required" not in str(error):  # A sentence may name a command without what it is given.
                raise


OF_A_PROVIDER = tuple(field.upper() for field in VendorSettings.model_fields)


def known_variables() -> set[str]:
    """The environment variables that the program reads, and those that its tests read."""
    names = {f"OUTPAINT_{name.upper()}" for name in Settings.model_fields}
    names |= {
        f"{name}_{suffix}" for name in ("<NAME>", *map(str.upper, provider_classes())) for suffix in OF_A_PROVIDER
    }
    names |= {one.key_env for one in provider_classes().values() if issubclass(one, HttpProvider)}
    return names | {"OUTPAINT_UPDATE_SNAPSHOTS", "OUTPAINT_TEST_EVERYTHING", "OUTPAINT_TEST_SCHEDULES"}


@every_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(blocks(page, "python"))
    # A provider that an example makes has some too.
    known = known_variables() | set(re.findall(r'key_env = "(\w+)"', code))
    known |= {
        f"{name.upper()}_{suffix}"
        for name in re.findall(r'^ +name = "(\w+)"', code, re.MULTILINE)
        for suffix in OF_A_PROVIDER
    }
    named = set(re.findall(rf"\bOUTPAINT_[A-Z_]+\b|(?:\b[A-Z]+|<NAME>)_(?:{'|'.join(OF_A_PROVIDER)})\b", text))
    for example in blocks(page, "json"):
        named |= {name for env in re.findall(r'"env": (\{[^}]*\})', example) for name in json.loads(env)}
    assert named - known == set()
