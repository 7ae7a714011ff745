import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .serving import picture


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTPAINT_")}
    return subprocess.run(
        [sys.executable, "-m", "outpaint_mcp", *arguments],
        cwd=folder,
        env={**clean, "OUTPAINT_DATA_DIR": str(folder / "data"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_outpaint_writes_the_image_and_task_and_tasks_find_it_again(tmp_path: Path) -> None:
    picture(tmp_path)
    done = run(tmp_path, "outpaint", "picture.png", "--zoom", "1.5", "-o", "wider.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "wider.png") as image:
        assert image.size == (72, 48)
    assert "local: " in done.stderr, "progress in plain lines where there is no terminal"
    (task_id,) = set(re.findall(r"op-[\w-]+?(?=[ ./])", done.stdout.splitlines()[0]))

    again = run(tmp_path, "outpaint", "picture.png", "--zoom", "1.5", "--json")
    assert json.loads(again.stdout)["id"] == task_id
    assert (tmp_path / "picture-outpainted.png").exists(), "without -o it has a name of its own"

    shown = run(tmp_path, "task", task_id, "--json", "-o", "copy.png")
    assert json.loads(shown.stdout)["status"] == "succeeded"
    assert (tmp_path / "copy.png").read_bytes() == (tmp_path / "wider.png").read_bytes()

    listed = run(tmp_path, "tasks", "--json")
    assert [task["id"] for task in json.loads(listed.stdout)] == [task_id]
    assert task_id in run(tmp_path, "tasks").stdout


def test_variants_are_written_with_numbers(tmp_path: Path) -> None:
    picture(tmp_path)
    options = ["--option", "variants=2", "--option", "format=jpeg", "--option", "quality=fast"]
    done = run(tmp_path, "outpaint", "picture.png", "--zoom", "1.25", *options, "-o", "out.png")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out-1.jpg", "out-2.jpg"], "named as what they are"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["outpaint", "missing.png"], "invalid_image"),
        (["outpaint", "text.png"], "invalid_image"),
        (["outpaint"], "invalid_request"),
        (["outpaint", "picture.png", "--task", "op-x"], "invalid_request"),
        (["outpaint", "picture.png", "--prompt", "a lake"], "unsupported_feature"),
        (["outpaint", "picture.png", "--provider", "legnext", "--prompt", "x"], "unsupported_feature"),
        (["outpaint", "picture.png", "--provider", "apiframe", "--zoom", "1.5"], "configuration"),
        (["task", "op-unknown"], "unknown_task"),
    ],
)
def test_a_refusal_exits_with_2_and_says_its_code_on_stderr(tmp_path: Path, arguments: list[str], code: str) -> None:
    picture(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"[{code}] ")
    assert "Traceback" not in done.stderr


def test_a_setting_that_cannot_be_read_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    done = run(tmp_path, "tasks", OUTPAINT_MAX_USD_PER_DAY="many-secrets")
    assert done.returncode == 2
    assert done.stderr.startswith("[configuration] ")
    assert "OUTPAINT_MAX_USD_PER_DAY" in done.stderr
    assert "many-secrets" not in done.stderr


def test_a_store_that_cannot_be_used_is_said_before_anything_is_ordered(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.db").write_text("this is no database, whatever its name says" * 100)
    picture(tmp_path)
    done = run(tmp_path, "outpaint", "picture.png")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("[configuration] The store"), done.stderr
    assert not (tmp_path / "data" / "jobs").exists()


def test_providers_are_listed_in_autos_order_with_what_they_need(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, "providers", "--json", OUTPAINT_PROVIDERS="local,vtrix", VTRIX_API_KEY="k").stdout)
    names = [one["name"] for one in found["providers"]]
    assert names == ["local", "vtrix", "legnext", "apiframe", "apimart", "piapi"]
    assert {one["name"]: one["needs"] for one in found["providers"]}["legnext"] == ["LEGNEXT_API_KEY"]
    assert [one["name"] for one in found["providers"] if one["configured"]] == ["local", "vtrix"]
    assert "PIAPI_API_KEY" in run(tmp_path, "providers").stdout


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    picture(tmp_path, width=200, height=120)
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    import pty

    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "outpaint_mcp", "outpaint", "picture.png", "-o", "out.png"],
            cwd=tmp_path,
            env={**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path / "data"), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
            timeout=120,
        )
        shown = os.read(ours, 65536).decode(errors="replace")
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0
    assert "━" in shown
    assert "local: " in shown
