"""What is stored is its owner's alone."""

import contextlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.cli.doctor import check_folder
from outpaint_mcp.cli.findings import Level
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.storage.data_folder import is_ours_alone
from outpaint_mcp.web.token_file import TokenFile, add_token, remove_tokens, token_names

from ..serving import picture, settings_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As root, whom no mode stops, the block is another user's."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(user)


def run(folder: Path, *arguments: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    environment = {**clean, "OUTPAINT_DATA_DIR": str(folder / "data"), "OUTPAINT_TOKENS_FILE": str(folder / "t/tokens")}
    subprocess.run(
        [sys.executable, "-m", "outpaint_mcp", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        umask=0,
        timeout=120,
        capture_output=True,
    )


def test_everything_stored_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    picture(tmp_path)
    data = tmp_path / "data"
    run(tmp_path, "outpaint", "picture.png", "--zoom", "1.5")
    run(tmp_path, "token", "add", "ann")
    found = [data, *data.rglob("*"), tmp_path / "t", *(tmp_path / "t").rglob("*")]
    assert {path.name for path in found} >= {"store.db", "images", "sources", "jobs", "tokens"}
    assert {path: oct(mode(path)) for path in found if mode(path) & 0o077} == {}

    # As older versions left it.
    for path in [data, *data.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (warned,) = check_folder(data)
    assert warned.level is Level.WARNING
    run(tmp_path, "tasks")
    assert {path: oct(mode(path)) for path in [data, *data.rglob("*")] if mode(path) & 0o077} == {}
    assert [one.level for one in check_folder(data)] == [Level.OK]


def test_in_a_folder_with_other_things_only_what_is_ours_is_closed(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (data, data / "site", data / "jobs", elsewhere):
        folder.mkdir()
        folder.chmod(0o755)
    for file in (data / "store.db", data / "site" / "index.html", data / "jobs" / "one", elsewhere / "linked"):
        file.touch()
        file.chmod(0o644)
    (data / "images").symlink_to(elsewhere)
    (data / "image-links.key").hardlink_to(elsewhere / "linked")
    run(tmp_path, "tasks")
    kept = (data, data / "site", data / "site" / "index.html", elsewhere, elsewhere / "linked")
    assert [oct(mode(path)) for path in kept] == ["0o755", "0o755", "0o644", "0o755", "0o644"]
    assert [oct(mode(data / name)) for name in ("store.db", "jobs", "jobs/one")] == ["0o600", "0o700", "0o600"]

    shared, wide = check_folder(data)
    assert (shared.level, wide.level) == (Level.WARNING, Level.WARNING)
    assert str(data / "outpaint") in shared.advice
    assert "store.db" in shared.advice
    subprocess.run(shlex.split(wide.advice), check=True)
    assert [oct(mode(path)) for path in kept] == ["0o755", "0o755", "0o644", "0o700", "0o600"]
    assert check_folder(data) == [shared]


def test_the_home_and_the_folders_of_the_system_are_never_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    run(tmp_path, "tasks")
    assert oct(mode(tmp_path / "data")) == "0o755"
    assert not any(is_ours_alone(folder) for folder in (Path("/"), *Path("/").iterdir()) if os.access(folder, os.R_OK))


async def test_an_open_store_keeps_its_locks_while_its_folder_is_opened_again(tmp_path: Path) -> None:
    async with open_service(settings_for(tmp_path)) as first:
        await first.recent()
        async with open_service(settings_for(tmp_path)) as second:
            await second.recent()
            # Leaving the WAL mode needs the file without any other connection.
            leave = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('PRAGMA journal_mode = DELETE')"
            store = settings_for(tmp_path).data_dir / "store.db"
            process = await anyio.run_process([sys.executable, "-c", leave, str(store)], check=False)
    assert b"database is locked" in process.stderr


def test_doctor_names_the_command_that_closes_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    folder.chmod(0o755)
    (found,) = check_folder(folder)
    assert found.level is Level.WARNING
    subprocess.run(shlex.split(found.advice), check=True)
    assert [one.level for one in check_folder(folder)] == [Level.OK]


def test_a_token_file_keeps_its_mode_its_owner_and_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "tokens", tmp_path / "tokens"
    add_token(real, "ann")
    add_token(real, "bob")
    link.symlink_to(real)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12345, 12345)
    before = real.stat()
    assert remove_tokens(link, "ann") == 1
    after = real.stat()
    assert link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert token_names(link) == ["bob"]
    assert [path.name for path in real.parent.iterdir()] == ["tokens"]


def test_a_token_is_removed_in_place_where_the_file_cannot_be_replaced(tmp_path: Path) -> None:
    linked, other = tmp_path / "tokens", tmp_path / "other"
    add_token(linked, "ann")
    kept = add_token(linked, "bob")
    add_token(linked, "ann", another=True)
    other.hardlink_to(linked)
    assert remove_tokens(linked, "ann") == 2
    assert other.samefile(linked)
    assert TokenFile(other).name_of(kept) == "bob"
    assert token_names(other) == ["bob"]

    other.unlink()
    # Not below `tmp_path`, which the other user cannot enter.
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "tokens"
        shutil.copy(linked, file)
        file.chmod(0o666)
        folder.chmod(0o555)
        with unprivileged():
            add_token(file, "cyd")
            assert remove_tokens(file, "bob") == 1
        assert token_names(file) == ["cyd"]
        assert list(folder.iterdir()) == [file]
        file.chmod(0o444)
        with unprivileged(), pytest.raises(ConfigurationError, match="as a user who can write it"):
            remove_tokens(file, "cyd")
        assert token_names(file) == ["cyd"]
