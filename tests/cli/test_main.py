import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from PIL import Image

from outpaint_mcp.providers.registry import BUILT_IN

from ..serving import picture
from ..transports.processes import open_vendors, seed_id, variables
from .conftest import Command


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


def test_outpaint_writes_the_image_and_task_and_tasks_find_it_again(tmp_path: Path, command: Command) -> None:
    picture(tmp_path)
    done = run(tmp_path, "outpaint", "picture.png", "--zoom", "1.5", "-o", "wider.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "wider.png") as image:
        assert image.size == (72, 48)
    assert "local: " in done.stderr, "progress in plain lines where there is no terminal"
    (task_id,) = set(re.findall(r"op-[\w-]+?(?=[ ./])", done.stdout.splitlines()[0]))

    _, again, _ = command("outpaint", "picture.png", "--zoom", "1.5", "--json")
    assert json.loads(again)["id"] == task_id
    assert (tmp_path / "picture-outpainted.png").exists(), "without -o it has a name of its own"

    _, shown, _ = command("task", task_id, "--json", "-o", "copy.png")
    assert json.loads(shown)["status"] == "succeeded"
    assert (tmp_path / "copy.png").read_bytes() == (tmp_path / "wider.png").read_bytes()

    _, further, _ = command("outpaint", f"outpaint://tasks/{task_id}/images/1", "--zoom", "1.1", "--json")
    assert json.loads(further)["request"]["task_id"] == task_id
    assert (tmp_path / "outpainted.png").exists()

    _, listed, _ = command("tasks", "--json")
    assert [task["id"] for task in json.loads(listed)] == [json.loads(further)["id"], task_id]
    assert task_id in command("tasks")[1]


def test_variants_are_written_with_numbers(tmp_path: Path, command: Command) -> None:
    picture(tmp_path)
    options = ["--option", "variants=2", "--option", "format=jpg", "--option", "quality=Fast"]
    code, _, err = command("outpaint", "picture.png", "--zoom", "125%", *options, "-o", "out")
    assert code == 0, err
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
def test_a_refusal_returns_2_and_says_its_code_on_stderr(
    tmp_path: Path, command: Command, arguments: list[str], code: str
) -> None:
    picture(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    returned, out, err = command(*arguments)
    assert (returned, out) == (2, "")
    assert err.startswith(f"[{code}] ")
    assert len(err.splitlines()) == 1


def test_a_refusal_ends_the_process_with_2(tmp_path: Path) -> None:
    done = run(tmp_path, "task", "op-unknown")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("[unknown_task] ")


def test_a_setting_that_cannot_be_read_is_named_with_what_it_must_be_and_its_value_is_not(command: Command) -> None:
    code, _, err = command("tasks", OUTPAINT_MAX_USD_PER_DAY="many-secrets", OUTPAINT_LOG_LEVEL="LOUD")
    assert code == 2
    assert err == (
        "[configuration] OUTPAINT_MAX_USD_PER_DAY must be a number of at least 0, such as 5. "
        "OUTPAINT_LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL. Correct the environment and start again.\n"
    )


def test_a_store_that_cannot_be_used_is_said_before_anything_is_ordered(tmp_path: Path, command: Command) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.db").write_text("this is no database, whatever its name says" * 100)
    picture(tmp_path)
    code, _, err = command("outpaint", "picture.png")
    assert code == 2
    assert err.splitlines()[-1].startswith("[configuration] The store"), err
    assert not (tmp_path / "data" / "jobs").exists()


def test_providers_are_listed_in_autos_order_with_what_they_need(command: Command) -> None:
    _, out, _ = command("providers", "--json", OUTPAINT_PROVIDERS="local,vtrix", VTRIX_API_KEY="k")
    found = json.loads(out)
    names = [one["name"] for one in found["providers"]]
    assert names == ["local", "vtrix", *(name for name in BUILT_IN if name not in ("local", "vtrix"))]
    assert {one["name"]: one["needs"] for one in found["providers"]}["legnext"] == ["LEGNEXT_API_KEY"]
    assert [one["name"] for one in found["providers"] if one["configured"]] == ["local", "vtrix"]
    assert "PIAPI_API_KEY" in command("providers")[1]


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    picture(tmp_path, width=200, height=120)
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "outpaint_mcp", "outpaint", "picture.png", "-o", "out.png"],
        cwd=tmp_path,
        env={**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path / "data"), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as done:
        os.close(theirs)
        pieces = []
        # Read until nobody writes any more, which Linux reports as an error: a full terminal would stop the command.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        os.close(ours)
    shown = b"".join(pieces).decode(errors="replace")
    assert done.returncode == 0
    assert "━" in shown
    assert "local: " in shown


@pytest.mark.parametrize("where", ["no folder/out.png", "file/out.png"])
def test_a_task_whose_image_cannot_be_written_is_told_and_can_be_written_elsewhere(
    tmp_path: Path, command: Command, where: str
) -> None:
    picture(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    code, out, err = command("outpaint", "picture.png", "--json", "-o", where)
    assert code == 1, "nothing was refused"
    task_id = json.loads(out)["id"]
    last = err.splitlines()[-1]
    assert last.startswith(f"[configuration] The image cannot be written to {where}: ")
    assert last.endswith(f". outpaint-mcp task {task_id} -o FILE writes it elsewhere.")
    assert command("task", task_id, "-o", "out.png")[0] == 0
    assert (tmp_path / "out.png").exists()


def test_a_task_whose_image_is_gone_is_told(tmp_path: Path, command: Command) -> None:
    picture(tmp_path)
    task_id = json.loads(command("outpaint", "picture.png", "--json")[1])["id"]
    for kept in (path for path in (tmp_path / "data").rglob("*.png") if path.is_file()):
        kept.unlink()
    code, out, err = command("task", task_id, "-o", "out.png")
    assert code == 1
    assert out.startswith(f"Task {task_id} (local): succeeded")
    assert err.splitlines()[-1].startswith("[invalid_image] ")
    assert not (tmp_path / "out.png").exists()


def test_images_are_written_into_a_folder_under_their_tasks_name(tmp_path: Path, command: Command) -> None:
    picture(tmp_path)
    (tmp_path / "folder").mkdir()
    code, out, err = command("outpaint", "picture.png", "--json", "-o", "folder")
    assert code == 0, err
    task_id = json.loads(out)["id"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [f"{task_id}-1.png"]


def test_a_name_with_brackets_is_not_overwritten(tmp_path: Path, command: Command) -> None:
    picture(tmp_path, name="a[1].png")
    (tmp_path / "a[1]-outpainted.png").write_bytes(b"mine")
    code, _, err = command("outpaint", "a[1].png")
    assert code == 0, err
    assert (tmp_path / "a[1]-outpainted.png").read_bytes() == b"mine"
    assert (tmp_path / "a[1]-outpainted-2.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C cannot be sent to one process alone")
async def test_whoever_interrupts_an_order_knows_how_to_go_on(tmp_path: Path) -> None:
    async with open_vendors() as vendors:
        environment = variables(tmp_path, vendors)
        program = [sys.executable, "-m", "outpaint_mcp"]
        source = ["--task", seed_id("legnext", grid=False), "--provider", " LegNext"]
        order = ["outpaint", *source, "--prompt", "a lake", "-o", "my lake.png"]
        async with await anyio.open_process([*program, *order], cwd=tmp_path, env=environment) as process:
            assert process.stderr is not None
            told, sent = "", False
            with anyio.fail_after(60):
                async for text in TextReceiveStream(process.stderr):
                    told += text
                    if not sent and re.search(r"^Task op-.*\n", told, re.MULTILINE):
                        sent = True
                        process.send_signal(signal.SIGINT)
                assert await process.wait() == 130, told
        (line,) = (line for line in told.splitlines() if line.startswith("Task op-"))
        task_id = line.split()[1].rstrip(":")
        assert line.endswith(f"go on with: outpaint-mcp task {task_id} --wait -o 'my lake.png'")
        vendors.finish()
        again = [*program, "task", task_id, "--wait", "-o", "my lake.png"]
        with anyio.fail_after(60):
            done = await anyio.run_process(again, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        written = sorted(name for name in os.listdir(tmp_path) if name.startswith("my lake"))
        assert written == [f"my lake-{index}.png" for index in range(1, 5)], "Legnext gives four images"
        assert len(vendors.orders("a lake")) == 1


DEEP = "[" * 3000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["outpaint", "picture.png", "--prompt", "x" * 8193], "[invalid_request] prompt must be text of 1 to 8192 "),
        (["outpaint", ""], "[invalid_request] Give exactly one of task_id and image. "),
        (
            ["outpaint", "picture.png", "--zoom", "x"],
            "[invalid_request] zoom must be a number from 1 to 2, such as 1.5.",
        ),
        (["outpaint", "picture.png", "--zoom", "nan"], "[invalid_request] zoom must be a number from 1 to 2, such as "),
        (["outpaint", "picture.png", "--speed", "slow"], "[invalid_request] speed must be relax, fast or turbo."),
        (["outpaint", "--task", " "], "[invalid_request] The task_id is empty."),
        (["task", " "], "[invalid_request] The task_id is empty."),
        (["task", "x", "--provider", "LEGNEXT"], "[configuration] Legnext needs "),
        (["outpaint", "picture.png", "--option", f"foo={DEEP}"], "[invalid_request] provider_options.foo "),
        (["outpaint", "~nobody-of-this-name/picture.png"], "[invalid_image] There is no file"),
        (["serve", "--port", "0"], "[configuration] Over stdio there is no --port."),
        (["serve", "--insecure", "--host", "::1"], "[configuration] Over stdio there is no --host, --insecure."),
        (["serve", "--with-sse"], "[configuration] Over stdio there is no --with-sse."),
        (["serve", "--public-url", "https://x"], "[configuration] Over stdio there is no --public-url."),
        (["serve", "--metrics-port", "0"], "[configuration] Over stdio there is no --metrics-port."),
    ],
)
def test_what_the_tool_would_refuse_is_refused_in_one_line(
    tmp_path: Path, command: Command, arguments: list[str], said: str
) -> None:
    picture(tmp_path)
    returned, out, err = command(*arguments)
    assert (returned, out) == (2, "")
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["outpaint", "--image", "picture.png"], "unrecognized arguments: --image"),
        (["task"], "the following arguments are required: id"),
        (["tasks", "--limit", "0"], "is not a whole number from 1 to 10000"),
        (["tasks", "--limit", "10001"], "is not a whole number from 1 to 10000"),
        (["tasks", "--limit", "9" * 30], "is not a whole number from 1 to 10000"),
        (["outpaint", "picture.png", "-o", ""], "give a file such as wider.png, or a folder"),
        (["outpaint", "picture.png", "-o", "none/"], "there is no folder 'none/'; make it, or give one that is there"),
        (["sandbox", "--port", "99999"], "is not a whole number from 0 to 65535"),
        (["sandbox", "--port", "-1"], "is not a whole number from 0 to 65535"),
        (["sandbox", "--seconds", "-1"], "is not a finite number of 0 or more"),
        (["sandbox", "--seconds", "nan"], "is not a finite number of 0 or more"),
        (["sandbox", "--seconds", "inf"], "is not a finite number of 0 or more"),
        (["serve", "--transport", "http", "--port", "-1"], "is not a whole number from 0 to 65535"),
        (
            ["serve", "--transport", "http", "--metrics-port", "x"],
            "--metrics-port: 'x' is not a whole number from 0 to 65535",
        ),
    ],
)
def test_a_flag_that_cannot_be_meant_is_named_with_what_it_takes(
    command: Command, arguments: list[str], said: str
) -> None:
    returned, out, err = command(*arguments)
    assert (returned, out) == (2, "")
    assert err.startswith("[invalid_request] The command line cannot be read: ")
    assert f"{said}. See outpaint-mcp " in err
    assert len(err.splitlines()) == 1


NOWHERE = [
    (">&-", 1, "[configuration] stdout cannot be written: Bad file descriptor. Send it elsewhere.\n"),
    (">/dev/full", 1, "[configuration] stdout cannot be written: No space left on device. Send it elsewhere.\n"),
    (">&- 2>&-", 1, ""),
    ("", 141, ""),
]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of Unix")
@pytest.mark.parametrize(
    ("command", "shown", "code", "said"),
    # Where there is no stdout, argparse shows its help on stderr.
    # Each command writes in a way of its own, which one kind of end shows; one command has every kind.
    [("tasks --json", *end) for end in NOWHERE]
    + [("providers", *NOWHERE[1]), ("doctor", *NOWHERE[1]), ("--help", *NOWHERE[1]), ("--help", *NOWHERE[3])],
)
def test_a_stdout_that_takes_nothing_ends_a_command_quietly(
    tmp_path: Path, command: str, shown: str, code: int, said: str
) -> None:
    if "full" in shown and not Path("/dev/full").exists():
        pytest.skip("there is no full device here")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {sys.executable} -m outpaint_mcp {command} {shown}"],
            cwd=tmp_path,
            # Buffered, as it is for users.
            env={**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": ""},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (code, said)


ODD = [
    (["outpaint", "x\udcff.png"], "[invalid_image] The image's path is not UTF-8."),
    (["outpaint", "picture.png", "--option", "a=\udcff"], "[invalid_request] An --option is not UTF-8."),
    (["outpaint", "picture.png", "--prompt", "\udcff"], "[invalid_request] prompt must be text"),
    (["task", "\udcff"], "[invalid_request] task_id must be text"),
]
GONE = [["outpaint", "y.png"], ["task", "op-x"], ["tasks"], ["providers"]]


@pytest.mark.parametrize(("arguments", "said"), ODD)
def test_odd_bytes_are_refused_with_a_sentence(
    tmp_path: Path, command: Command, arguments: list[str], said: str
) -> None:
    picture(tmp_path)
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)


@pytest.mark.skipif(sys.platform == "win32", reason="there a folder that is in use cannot be deleted")
@pytest.mark.parametrize("arguments", GONE)
def test_a_deleted_folder_is_refused_with_a_sentence(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    (tmp_path / "x").rmdir()
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("[configuration] The working folder is not there")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of Unix")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("{program} outpaint $(printf 'x\\377.png')", "[invalid_image] The image's path is not UTF-8."),
        ("mkdir x; cd x; rmdir ../x; {program} tasks", "[configuration] The working folder is not there"),
    ],
)
def test_a_process_begins_with_odd_bytes_or_in_a_deleted_folder(tmp_path: Path, script: str, said: str) -> None:
    picture(tmp_path)
    done = subprocess.run(
        ["/bin/sh", "-c", script.format(program=f"{sys.executable} -m outpaint_mcp")],
        cwd=tmp_path,
        env={**os.environ, "OUTPAINT_DATA_DIR": str(tmp_path / "data")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)


def test_install_names_the_providers_own_variables_for_their_keys(command: Command) -> None:
    code, out, err = command("install", "cursor", "--print")
    assert code == 0, err
    assert '"mcpServers"' in out
    for name in ("LEGNEXT_API_KEY", "APIFRAME_API_KEY"):
        assert name in out
