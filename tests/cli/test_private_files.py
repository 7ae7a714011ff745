"""What is stored is its owner's alone."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from outpaint_mcp.cli.doctor import check_folder
from outpaint_mcp.cli.findings import Level
from outpaint_mcp.web.token_file import add_token, remove_tokens, token_names

from ..serving import picture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
    data.mkdir(mode=0o755)
    (data / "store.db").touch(mode=0o644)
    run(tmp_path, "outpaint", "picture.png", "--zoom", "1.5")
    run(tmp_path, "token", "add", "ann")
    found = [data, *data.rglob("*"), tmp_path / "t", *(tmp_path / "t").rglob("*")]
    assert {path.name for path in found} >= {"store.db", "images", "sources", "jobs", "tokens"}
    assert {path: oct(mode(path)) for path in found if mode(path) & 0o077} == {}


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
