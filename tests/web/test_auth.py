"""The file of bearer tokens: who is let in, and what becomes of them when it changes."""

import hashlib
import logging
import resource
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.web.token_file import (
    LOOK_SECONDS,
    MAX_BYTES,
    PREFIX,
    TokenFile,
    add_token,
    remove_tokens,
    token_names,
)


class Seconds:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def look(self) -> None:
        """Let so much time pass that the file is looked at again."""
        self.now += LOOK_SECONDS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


def a_line(name: str, token: str) -> str:
    return f"{name} {hashlib.sha256(token.encode()).hexdigest()}\n"


# The file


def test_a_token_is_its_names_and_no_other_text_is(file: Path) -> None:
    ann, bob = add_token(file, "ann"), add_token(file, "bob")
    tokens = TokenFile(file)
    assert (tokens.name_of(ann), tokens.name_of(bob)) == ("ann", "bob")
    digest = file.read_text().split()[1]
    for wrong in ("", "ann", ann[:-1], ann + "x", ann.upper(), f" {ann}", f"Bearer {ann}", digest, "\udcff", "é" * 100):
        assert tokens.name_of(wrong) is None


def test_tokens_are_long_and_random_and_known_by_their_beginning(file: Path) -> None:
    made = {add_token(file, f"name-{number}") for number in range(50)}
    assert len(made) == 50
    assert {token[: len(PREFIX)] for token in made} == {PREFIX}
    assert min(len(token) for token in made) >= len(PREFIX) + 43, "256 bits"


def test_the_file_holds_no_token_and_only_its_owner_may_read_it(file: Path) -> None:
    token = add_token(file, "ann")
    assert token.removeprefix(PREFIX) not in file.read_text()
    assert file.read_text() == a_line("ann", token)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    add_token(file, "bob")
    remove_tokens(file, "ann")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "tokens"
    token = add_token(file, "ann")
    assert TokenFile(file).name_of(token) == "ann"


def test_notes_blank_lines_and_a_missing_last_newline_do_no_harm(file: Path) -> None:
    file.write_text("# our tokens\n\n" + a_line("ann", "one") + "  \n# the end, without a newline")
    two = add_token(file, "bob")
    tokens = TokenFile(file)
    assert (tokens.name_of("one"), tokens.name_of(two)) == ("ann", "bob")
    assert file.read_text().startswith("# our tokens\n\n")
    assert token_names(file) == ["ann", "bob"]


@pytest.mark.parametrize("name", ["a", "ann", "Ann.Lee-2_x", "7", "x" * 64])
def test_a_plain_name_can_be_given_a_token(file: Path, name: str) -> None:
    token = add_token(file, name)
    assert TokenFile(file).name_of(token) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a\nb", "#ann", "-ann", ".ann", "é", "x" * 65, "a/b", "a:b", "ann ", "ann\t", "ann\n"]
)
def test_a_name_that_would_break_the_file_is_refused_and_nothing_is_written(file: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a name"):
        add_token(file, name)
    assert not file.exists()


def test_a_name_has_one_token_unless_another_is_asked_for(file: Path) -> None:
    first = add_token(file, "ann")
    with pytest.raises(ConfigurationError, match="has a token already"):
        add_token(file, "ann")
    second = add_token(file, "ann", another=True)
    tokens = TokenFile(file)
    assert first != second
    assert {tokens.name_of(first), tokens.name_of(second)} == {"ann"}
    assert token_names(file) == ["ann", "ann"]


def test_tokens_that_are_added_at_the_same_moment_all_stand(file: Path) -> None:
    names = [f"name-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda name: add_token(file, name), names))
    tokens = TokenFile(file)
    assert [tokens.name_of(token) for token in made] == names


def test_removing_takes_every_token_of_the_name_and_nothing_else(file: Path) -> None:
    file.write_text("# ann is on leave\n")
    anns = [add_token(file, "ann"), add_token(file, "ann", another=True)]
    annas = add_token(file, "anna")
    assert remove_tokens(file, "ann") == 2
    tokens = TokenFile(file)
    assert [tokens.name_of(token) for token in anns] == [None, None]
    assert tokens.name_of(annas) == "anna"
    assert file.read_text().startswith("# ann is on leave\n")
    assert remove_tokens(file, "ann") == 0
    assert add_token(file, "ann")
    assert [path.name for path in file.parent.iterdir()] == [file.name], "nothing is left lying about"


@pytest.mark.parametrize("use", [TokenFile, token_names, lambda path: remove_tokens(path, "ann")])
@pytest.mark.parametrize("broken", ["missing", "a folder", "no text", "too long"])
def test_a_file_that_cannot_be_read_is_a_fault_of_the_settings(
    tmp_path: Path, use: Callable[[Path], object], broken: str
) -> None:
    file = tmp_path / "tokens"
    match broken:
        case "a folder":
            file.mkdir()
        case "no text":
            file.write_bytes(b"\xff\xfe\x00")
        case "too long":
            file.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="tokens"):
        use(file)


@pytest.mark.parametrize("where", ["a folder", "in a file"])
def test_a_token_that_cannot_be_noted_is_not_made(tmp_path: Path, where: str) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("")
    with pytest.raises(ConfigurationError):
        add_token(tmp_path / "a folder" if where == "a folder" else tmp_path / "a file" / "tokens", "ann")


# While the server runs


@pytest.mark.parametrize(
    "line", ["zoe", "zoe 12", "zoe " + "g" * 64, "a b " + "0" * 64, "zoe " + "0" * 63, "opt_" + "x" * 43]
)
def test_a_line_that_cannot_be_read_stops_the_start_and_is_not_shown(file: Path, line: str) -> None:
    file.write_text(a_line("bob", "one") + line + "\n")
    with pytest.raises(ConfigurationError, match="line 2 cannot be read") as refused:
        TokenFile(file)
    # Somebody may have put the token itself there.
    assert line not in str(refused.value)


def test_a_line_that_is_broken_later_is_skipped_and_reported_once(
    file: Path, clock: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    ann = add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    with file.open("a") as opened:
        opened.write("opt_somebodys-token\n")
    bob = add_token(file, "bob")
    clock.look()
    assert (tokens.name_of(ann), tokens.name_of(bob)) == ("ann", "bob")
    clock.look()
    assert tokens.name_of(ann) == "ann"
    assert [(one.levelno, one.message) for one in caplog.records] == [
        (logging.ERROR, "tokens: line 2 cannot be read"),
    ]


def test_who_is_added_or_removed_is_so_with_the_next_look(file: Path, clock: Seconds) -> None:
    ann = add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    bob = add_token(file, "bob")
    clock.look()
    assert (tokens.name_of(ann), tokens.name_of(bob)) == ("ann", "bob")
    remove_tokens(file, "ann")
    clock.look()
    assert (tokens.name_of(ann), tokens.name_of(bob)) == (None, "bob")


def test_the_file_is_looked_at_once_in_a_while_only(file: Path, clock: Seconds) -> None:
    add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    bob = add_token(file, "bob")
    clock.now += LOOK_SECONDS * 0.9
    assert tokens.name_of(bob) is None
    clock.now += LOOK_SECONDS * 0.2
    assert tokens.name_of(bob) == "bob"


def test_nobody_is_let_in_while_the_file_is_gone(file: Path, clock: Seconds, caplog: pytest.LogCaptureFixture) -> None:
    ann = add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    away = file.rename(file.with_name("away"))
    clock.look()
    assert tokens.name_of(ann) is None
    assert "cannot be read" in caplog.text
    away.rename(file)
    clock.look()
    assert tokens.name_of(ann) == "ann"


def test_nobody_is_let_in_by_a_file_that_has_become_unreadable(file: Path, clock: Seconds) -> None:
    ann = add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    file.write_bytes(file.read_bytes() + b"\xff")
    clock.look()
    assert tokens.name_of(ann) is None


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(file: Path, clock: Seconds) -> None:
    ann = add_token(file, "ann")
    tokens = TokenFile(file, seconds=clock)
    bob = add_token(file, "bob")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        # As many files are open as may be: the change is seen, but not what it is.
        clock.look()
        during = tokens.name_of(ann)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clock.look()
    assert during is None
    assert (tokens.name_of(ann), tokens.name_of(bob)) == ("ann", "bob")


def test_a_file_that_is_replaced_by_one_of_the_same_size_is_read(file: Path, clock: Seconds) -> None:
    file.write_text(a_line("ann", "one"))
    tokens = TokenFile(file, seconds=clock)
    other = file.with_name("other")
    other.write_text(a_line("ann", "two"))
    other.replace(file)
    clock.look()
    assert (tokens.name_of("one"), tokens.name_of("two")) == (None, "ann")
