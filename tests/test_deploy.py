"""What is handed to whoever hosts the server: every command, flag, variable and file that these files name exists.

No container and no service is started here; the health check of the image is run against a real server.
"""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import anyio
import pytest

from outpaint_mcp.cli.main import main
from outpaint_mcp.settings import Settings

from .transports.processes import START_SECONDS, http_server, open_vendors, variables

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
IGNORED = ROOT / ".dockerignore"
COMPOSE = ROOT / "compose.yaml"
UNIT = ROOT / "deploy" / "outpaint-mcp.service"
PAGE = ROOT / "docs" / "hosting.md"
PLATFORM_COMPOSE = ROOT / "compose.platform.yaml"
NGINX = ROOT / "deploy" / "nginx.conf"
MANIFESTS = ROOT / "deploy" / "kubernetes.yaml"
PLATFORM_PAGE = ROOT / "docs" / "platform.md"
ALL = (DOCKERFILE, COMPOSE, UNIT, PAGE, PLATFORM_COMPOSE, NGINX, MANIFESTS, PLATFORM_PAGE)
VENDORS = ("PIAPI", "VTRIX", "APIFRAME", "APIMART", "LEGNEXT")
VENDOR_SETTINGS = {f"{vendor}_{name}" for vendor in VENDORS for name in ("API_KEY", "BASE_URL", "USD_PER_ORDER")}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, with lines joined as its builder joins them."""
    text = "".join(line for line in DOCKERFILE.read_text().splitlines(keepends=True) if not line.startswith("#"))
    joined = text.replace("\\\n", "").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined if line.strip())]


def instruction(name: str) -> str:
    return [rest for one, rest in instructions() if one == name][-1]


def unit() -> dict[str, list[str]]:
    """The service's settings: systemd allows a name several times, configparser does not."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def commands() -> list[list[str]]:
    """The command lines of outpaint-mcp in all of these files, without the program's name."""
    found: list[list[str]] = [json.loads(instruction("CMD")), shlex.split(unit()["ExecStart"][0])[1:]]
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            # The last one: before it the name may be a user's or a folder's.
            places = [number for number, word in enumerate(words) if Path(word).name == "outpaint-mcp"]
            if places and (arguments := _until_shell(words[places[-1] + 1 :])):
                found.append(arguments)
    return found


def _until_shell(words: list[str]) -> list[str]:
    ends = [number for number, word in enumerate(words) if word in (">", "&", "&&", "|")]
    return words[: ends[0]] if ends else words


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_and_flag_is_one_of_the_command_lines(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [arguments[0], *([arguments[1]] if arguments[0] == "token" else [])]
    with pytest.raises(SystemExit) as ended:
        main([*names, "--help"])
    help_text = capsys.readouterr().out
    assert ended.value.code == 0, f"there is no command {' '.join(names)}"
    for flag in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{flag}\b(?!-)", help_text), f"{' '.join(names)} has no {flag}"


def test_the_page_shows_commands() -> None:
    shown = [" ".join(arguments) for arguments in commands()]
    for needed in ("token add alice", "token add alice --another", "token list", "token remove alice", "sandbox"):
        assert any(one.startswith(needed) for one in shown), needed


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_every_variable_is_a_setting(file: Path) -> None:
    settings = {f"OUTPAINT_{name.upper()}" for name in Settings.model_fields} | VENDOR_SETTINGS
    named = set(re.findall(r"\b(?:OUTPAINT|" + "|".join(VENDORS) + r")_[A-Z][A-Z_]*[A-Z]\b", file.read_text()))
    assert named
    assert named <= settings, f"{file.name} names {sorted(named - settings)}"


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.name)
def test_no_secret_is_in_a_file(file: Path) -> None:
    text = file.read_text()
    assert not re.search(r"opt_[A-Za-z0-9_-]{20,}", text)
    assert re.findall(r"_API_KEY=(?!\.\.\.)\S+", text) == []


def test_every_file_that_the_page_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert (PAGE.parent / link).exists(), link
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.read_text().splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE.read_text())) <= headings


# The image


def test_what_the_image_is_built_from_is_sent_to_its_builder_and_exists() -> None:
    let_in = {line[1:] for line in IGNORED.read_text().splitlines() if line.startswith("!")}
    assert "*" in IGNORED.read_text().splitlines()
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    assert copied == let_in
    for source in copied:
        assert (ROOT / source).exists(), source
    # The wheel is built from nothing else.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "src"} <= copied


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    user, _, group = instruction("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"useradd --uid {user} " in instruction("RUN")
    assert f"-o {user} -g {group}" in PAGE.read_text(), "who mounts a folder must know the user"


def test_the_image_keeps_its_data_in_its_volume() -> None:
    assert f"OUTPAINT_DATA_DIR={instruction('VOLUME')} " in instruction("ENV")
    assert f"- data:{instruction('VOLUME')}\n" in COMPOSE.read_text()


async def test_the_images_own_command_refuses_to_serve_strangers(tmp_path: Path) -> None:
    async with open_vendors() as vendors:
        environment = variables(tmp_path, vendors)
    command = [sys.executable, "-m", "outpaint_mcp", *json.loads(instruction("CMD"))]
    command[command.index("8000")] = "0"
    with anyio.fail_after(START_SECONDS):
        done = await anyio.run_process(command, env=environment, check=False)
    assert done.returncode == 2
    assert b"OUTPAINT_TOKENS_FILE" in done.stderr


async def test_the_images_health_check_tells_a_server_from_none(tmp_path: Path) -> None:
    async with open_vendors() as vendors, http_server(variables(tmp_path, vendors)) as server:
        port = server.base_url.rpartition(":")[2]
        assert await _health_check(port) == 0
        server.process.kill()
        await server.ended.wait()
        assert await _health_check(port) != 0


async def _health_check(port: str) -> int:
    """Its exit code, with the image's port replaced by `port`."""
    program, *arguments = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert program == "python"
    assert instruction("EXPOSE") == "8000"
    changed = [argument.replace("8000", port) for argument in arguments]
    assert changed != arguments
    done = await anyio.run_process([sys.executable, *changed], check=False)
    return done.returncode


# Compose


def test_the_container_can_do_no_more_than_it_needs() -> None:
    lines = {line.strip() for line in COMPOSE.read_text().splitlines()}
    wanted = {
        "read_only: true",
        "cap_drop: [ALL]",
        'security_opt: ["no-new-privileges:true"]',
        '- "127.0.0.1:8000:8000"',
        "- ./tokens:/run/tokens:ro",
        "env_file: keys.env",
    }
    assert wanted <= lines
    assert "privileged: true" not in lines


def test_a_stop_has_longer_than_the_server_takes() -> None:
    from outpaint_mcp.tasks import sending
    from outpaint_mcp.web import app as http_app

    needed = http_app.STOP_SECONDS + sending.STOP_SECONDS
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE.read_text())
    assert int(grace) > needed
    assert int(unit()["TimeoutStopSec"][0]) > needed
    assert instruction("STOPSIGNAL") == unit()["KillSignal"][0] == "SIGTERM"


# systemd


def test_the_service_is_no_root_and_shut_in() -> None:
    settings = unit()
    assert settings["User"] == ["outpaint-mcp"]
    for name, value in (
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("Restart", "on-failure"),
        # One picture too many must not end the server.
        ("OOMPolicy", "continue"),
    ):
        assert settings[name] == [value], name


def test_the_service_writes_in_its_state_folder_only() -> None:
    settings = unit()
    folder = f"/var/lib/{settings['StateDirectory'][0]}"
    assert settings["StateDirectoryMode"] == ["0700"]
    environment = dict(one.split("=", 1) for one in settings["Environment"])
    for name in ("OUTPAINT_DATA_DIR", "OUTPAINT_TOKENS_FILE"):
        assert environment[name].startswith(f"{folder}/")
