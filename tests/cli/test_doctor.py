import json
import os
import sqlite3
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from outpaint_mcp.bootstrap import open_service
from outpaint_mcp.cli.doctor import (
    Installation,
    attempt,
    check_folder,
    check_local_engine,
    check_packages,
    check_stdout,
    check_store,
    examine,
)
from outpaint_mcp.cli.findings import NO_VENDOR_CONTACTED, Finding, Level, as_json, as_text, exit_code
from outpaint_mcp.cli.online_checks import check_accounts, check_engines
from outpaint_mcp.cli.settings_checks import (
    check_file_roots,
    check_providers,
    check_tokens_file,
    check_variables,
    flaw_in_key,
    known_variables,
)
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.domain.request import OutpaintRequest
from outpaint_mcp.providers import Balance, provider_classes
from outpaint_mcp.providers.local.provider import LocalProvider
from outpaint_mcp.providers.stability import Stability
from outpaint_mcp.sandbox import VENDORS as SANDBOX_VENDORS
from outpaint_mcp.sandbox import Sandbox, SandboxSettings, serving
from outpaint_mcp.sandbox.vendors.comfyui import ComfyUI
from outpaint_mcp.settings import VendorSettings, child_environment
from outpaint_mcp.web.token_file import add_token

from ..serving import picture, settings_for

KEY = "afk_0123456789abcdef0123456789abcdef"


def vendor(
    key: str | None = None, base_url: str | None = None, usd: float | None = None, workflow: Path | None = None
) -> VendorSettings:
    # Not read from the environment of whoever runs the tests.
    return VendorSettings.model_construct(
        api_key=None if key is None else SecretStr(key), base_url=base_url, usd_per_order=usd, workflow=workflow
    )


def installation(folder: Path, **changes: Any) -> Installation:
    classes = provider_classes()
    return Installation(
        **{
            "settings": settings_for(folder),
            "vendors": {name: vendor() for name in classes},
            "classes": classes,
            "variables": (),
            "environment": child_environment(),
            **changes,
        }
    )


def providers(folder: Path, settings: dict[str, Any] | None = None, **vendors: VendorSettings) -> list[Finding]:
    return check_providers(settings_for(folder, **(settings or {})), vendors, provider_classes())


def levels(findings: list[Finding]) -> set[Level]:
    return {finding.level for finding in findings}


async def test_a_fresh_installation_is_well_and_nothing_is_made_by_looking(tmp_path: Path) -> None:
    found = await examine(installation(tmp_path))
    assert levels(found) == {Level.OK}, as_text(found)
    assert exit_code(found) == 0
    assert {"python", "packages", "stdout", "data folder", "store", "local", "legnext"} <= {one.name for one in found}
    assert os.listdir(tmp_path) == []
    assert NO_VENDOR_CONTACTED in as_text(found)
    assert "All is well" in as_text(found)


async def test_everything_else_is_still_examined_when_the_settings_cannot_be_read(tmp_path: Path) -> None:
    broken = ConfigurationError("A setting cannot be read: OUTPAINT_PREVIEW: not a boolean.", "Correct it.")
    found = await examine(
        installation(tmp_path, settings=broken, stdout_command=(sys.executable, "-c", "print('hello')"))
    )
    problems = {one.name: one for one in found if one.level is Level.PROBLEM}
    assert problems.keys() == {"settings", "stdout"}
    assert "OUTPAINT_PREVIEW" in problems["settings"].message
    assert exit_code(found) == 2
    assert "local" in {one.name for one in found}


async def test_no_output_holds_a_key_or_the_rest_of_a_base_url(tmp_path: Path) -> None:
    vendors = {
        "legnext": vendor(f" {KEY}", "https://user:pass-w0rd@gateway.example/sec-ret/"),
        "piapi": vendor("short-s3c"),
        "vtrix": vendor(KEY),
        "apimart": vendor(KEY),
    }
    found = await examine(installation(tmp_path, vendors=vendors))
    for shown in (as_text(found), as_json(found), repr(installation(tmp_path, vendors=vendors))):
        assert not any(secret in shown for secret in (KEY, "short-s3c", "0123456789")), shown
    assert not any(secret in as_text(found) for secret in ("pass-w0rd", "sec-ret"))
    assert "gateway.example" in as_text(found)


def test_the_json_says_what_the_text_says(tmp_path: Path) -> None:
    findings = [Finding("a", Level.OK, "Good."), Finding("b", Level.PROBLEM, "Bad.", "Mend it.")]
    assert json.loads(as_json(findings)) == {
        "ok": False,
        "vendors_asked": False,
        "findings": [
            {"name": "a", "level": "ok", "message": "Good.", "advice": ""},
            {"name": "b", "level": "problem", "message": "Bad.", "advice": "Mend it."},
        ],
    }
    lines = as_text(findings).splitlines()
    assert lines[:3] == ["ok       a: Good.", "problem  b: Bad.", "         -> Mend it."]
    assert lines[-1].startswith("1 problem. ")


def test_the_versions_of_the_dependencies_are_shown_but_not_of_the_optional_ones() -> None:
    versions = {"mcp": "2.3.0", "pyjwt": "2.11"}
    requirements = ["mcp<3,>=2.3", "pyjwt[crypto]>=2.10.1,<3", "rich<16,>=14; extra == 'cli'"]
    found = check_packages(requirements, versions.__getitem__)
    assert found[-1] == Finding("packages", Level.OK, "mcp 2.3.0, pyjwt 2.11")


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("2.3.0", Level.OK),
        ("2.11", Level.OK),
        ("2.3.0rc1", Level.OK),
        ("2.2.9", Level.PROBLEM),
        ("3.0.0", Level.PROBLEM),
        ("1.28.1", Level.PROBLEM),
    ],
)
def test_a_package_outside_of_its_bounds_is_a_problem(version: str, level: Level) -> None:
    found = check_packages(["mcp<3,>=2.3", "rich<16,>=14; extra == 'cli'"], {"mcp": version}.__getitem__)
    assert max(levels(found), key=list(Level).index) is level
    if level is Level.PROBLEM:
        assert "mcp<3,>=2.3" in next(one for one in found if one.level is level).advice


def test_a_package_that_is_missing_is_a_problem_and_no_metadata_are_a_warning() -> None:
    def none_of(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    found = check_packages(["pyjwt[crypto]>=2.10.1,<3"], none_of)
    (missing,) = (one for one in found if one.level is Level.PROBLEM)
    assert (missing.message, missing.advice) == ("pyjwt is not installed.", "pip install 'pyjwt[crypto]>=2.10.1,<3'")
    assert levels(check_packages(None, none_of)) == {Level.OK, Level.WARNING}


def test_what_prints_at_the_start_breaks_the_protocol() -> None:
    assert levels(check_stdout("")) == {Level.OK}
    assert levels(check_stdout("hello\n")) == {Level.PROBLEM}
    assert levels(check_stdout(None)) == {Level.PROBLEM}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("OUTPAINT_DATADIR", "Was OUTPAINT_DATA_DIR meant?"),
        ("OUTPAINT_MAX_USD_A_DAY", "Was OUTPAINT_MAX_USD_PER_DAY meant?"),
        ("outpaint_provider", "Was OUTPAINT_PROVIDERS meant?"),
        ("LEGNEXT_APIKEY", "Was LEGNEXT_API_KEY meant?"),
        ("PIAPI_KEY", "Was PIAPI_API_KEY meant?"),
        ("FAL_API_KEY", "Was FAL_KEY meant?"),
        ("OUTPAINT_QQQQ", "Remove it; docs/settings.md lists the settings."),
    ],
)
def test_a_variable_that_no_setting_knows_is_named_with_the_nearest_one(name: str, advice: str) -> None:
    (found,) = check_variables([name, "PATH"], known_variables(provider_classes()))
    assert (found.level, found.advice) == (Level.WARNING, advice)
    assert name in found.message


def test_settings_in_any_case_and_other_programs_variables_are_left_alone() -> None:
    names = [
        "OUTPAINT_DATA_DIR",
        "outpaint_preview",
        "VTRIX_USD_PER_ORDER",
        "VTRIX_CLI_THEME",
        "FAL_KEY",
        "PATH",
        "MY_OUTPAINT_X",
    ]
    assert check_variables(names, known_variables(provider_classes())) == []
    assert "MY_PLUG_IN_BASE_URL" in known_variables({"my-plug-in": LocalProvider})


@pytest.mark.parametrize(
    "key",
    [
        f" {KEY}",
        f"{KEY}\n",
        f'"{KEY}"',
        f"'{KEY}",
        f"Bearer {KEY}",
        "x-api-key: " + KEY,
        "${LEGNEXT_API_KEY}",
        "$LEGNEXT_API_KEY",
        "%LEGNEXT_API_KEY%",
        "<your key>",
        "your-api-key-here",
        "sk-xxxxxxxxxxxxxxxxxxxx",
        "afk_...",
        "changeme-changeme",
        "REPLACE_ME_WITH_KEY",
        f"{KEY} {KEY}",
        "schlüssel-0123456789",
        "abc123",
    ],
)
def test_a_key_that_cannot_be_right_is_a_warning(tmp_path: Path, key: str) -> None:
    found = providers(tmp_path, apiframe=vendor(key))
    assert [one.level for one in found] == [Level.WARNING]
    assert key.strip() not in found[0].message + found[0].advice


@pytest.mark.parametrize("key", [KEY, "sk-" + "a1B2c3D4" * 6, "0123456789ab", "eyJhbGciOi.J9eyJzdWI.abc-_123"])
def test_a_key_that_may_be_right_is_not_questioned(key: str) -> None:
    assert flaw_in_key(key) is None


def test_two_vendors_with_one_key_are_a_warning(tmp_path: Path) -> None:
    found = providers(tmp_path, legnext=vendor(KEY), vtrix=vendor(KEY))
    (warned,) = [one for one in found if one.level is Level.WARNING]
    assert "VTRIX_API_KEY is the same as LEGNEXT_API_KEY" in warned.message


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://gateway.example/x", Level.OK),
        ("http://127.0.0.1:8765/legnext", Level.OK),
        ("http://[::1]:8765", Level.OK),
        ("http://gateway.example", Level.WARNING),
        ("http://127.evil.example", Level.WARNING),
    ],
)
def test_a_base_url_that_sends_the_key_unencrypted_is_a_warning(tmp_path: Path, url: str, level: Level) -> None:
    found = providers(tmp_path, legnext=vendor(KEY, url))
    assert found[-1].level is level
    assert "LEGNEXT_BASE_URL" in found[-1].message


@pytest.mark.parametrize(
    ("url", "level", "told"),
    [
        (None, Level.OK, "Not used: IOPAINT_BASE_URL is not set"),
        ("http://127.0.0.1:8080", Level.OK, "names the engine at 127.0.0.1"),
        ("http://192.168.1.4:8080", Level.OK, "names the engine at 192.168.1.4"),
        ("http://8.8.8.8:8080", Level.WARNING, "sends images unencrypted to 8.8.8.8"),
    ],
)
def test_an_engine_is_used_by_its_address_and_needs_no_key(
    tmp_path: Path, url: str | None, level: Level, told: str
) -> None:
    (found,) = providers(tmp_path, iopaint=vendor(None, url))
    assert (found.level, told in found.message) == (level, True)


def test_a_provider_that_auto_is_told_to_try_must_be_there_and_have_a_key(tmp_path: Path) -> None:
    found = providers(tmp_path, {"providers": ("piapi", "nobody", "local")}, piapi=vendor(), vtrix=vendor())
    assert [(one.name, one.level) for one in found] == [
        ("providers", Level.PROBLEM),
        ("vtrix", Level.OK),
        ("piapi", Level.WARNING),
    ]


def test_a_cap_in_usd_warns_of_each_used_provider_whose_price_is_unknown(tmp_path: Path) -> None:
    cap = {"max_usd_per_day": 5.0}
    keys = {name: vendor(f"{name}-{KEY}") for name in ("legnext", "piapi")}
    warned = [one for one in providers(tmp_path, cap, **keys) if one.level is Level.WARNING]
    assert [one.name for one in warned] == ["piapi"]
    assert "PIAPI_USD_PER_ORDER" in warned[0].advice
    priced = providers(tmp_path, cap, piapi=vendor(KEY, usd=0.1))
    assert levels(priced) == {Level.OK}


def test_the_data_folder_must_be_writable_or_be_made_and_have_room(tmp_path: Path) -> None:
    assert levels(check_folder(tmp_path / "a" / "b")) == {Level.OK}
    assert levels(check_folder(tmp_path)) == {Level.OK}
    assert levels(check_folder(tmp_path, lambda path: 10**8)) == {Level.WARNING}
    assert levels(check_folder(tmp_path, lambda path: 10**6)) == {Level.PROBLEM}
    (tmp_path / "file").touch()
    assert levels(check_folder(tmp_path / "file")) == {Level.PROBLEM}
    assert levels(check_folder(tmp_path / "file" / "data")) == {Level.PROBLEM}
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is left behind"


def test_a_data_folder_that_may_not_be_written_is_a_problem(folder_of_an_ordinary_user: Path) -> None:
    folder = folder_of_an_ordinary_user / "locked"
    folder.mkdir(mode=0o500)
    assert levels(check_folder(folder)) == {Level.PROBLEM}
    assert levels(check_folder(folder / "new")) == {Level.PROBLEM}


async def test_the_store_says_how_many_tasks_are_open(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with open_service(settings) as service:
        request = OutpaintRequest(image=str(picture(tmp_path)), zoom=1.5)
        task = await service.outpaint(request, wait_seconds=45)
    assert task.status.is_final
    store = settings.data_dir / "store.db"
    (found,) = await check_store(settings, time.time())
    assert (found.level, found.message) == (Level.OK, "It opens; tasks: 1, open: 0.")

    with sqlite3.connect(store) as db:
        db.execute("UPDATE tasks SET status = 'unknown'")
    db.close()
    (found,) = await check_store(settings, time.time())
    assert found.level is Level.WARNING
    assert "unknown: 1" in found.message


@pytest.mark.parametrize("newer", [True, False])
async def test_a_store_that_is_newer_or_none_is_a_problem(tmp_path: Path, newer: bool) -> None:
    settings = settings_for(tmp_path)
    path = settings.data_dir / "store.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    if newer:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        path.write_bytes(b"no database, whatever its name says" * 100)
    (found,) = await check_store(settings, time.time())
    assert found.level is Level.PROBLEM
    assert ("newer" in found.message) is newer


def test_each_file_root_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = check_file_roots([tmp_path, tmp_path / "file", tmp_path / "missing", Path("here"), Path(tmp_path.anchor)])
    assert levels(found) == {Level.WARNING}
    assert len(found) == 4
    for fine in ([tmp_path], [], None):
        assert levels(check_file_roots(fine)) == {Level.OK}


def test_a_tokens_file_is_to_be_readable_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    assert levels(check_tokens_file(path)) == {Level.PROBLEM}
    add_token(path, "alice")
    assert check_tokens_file(path) == [Finding("tokens file", Level.OK, f"Tokens in {path}: 1")]
    if os.name == "posix":
        path.chmod(0o644)
        assert levels(check_tokens_file(path)) == {Level.WARNING}
        path.chmod(0o620)
        assert levels(check_tokens_file(path)) == {Level.PROBLEM}
        path.chmod(0o600)
    path.write_text("alice nonsense\n")
    assert levels(check_tokens_file(path)) == {Level.PROBLEM}
    path.write_text("# nobody yet\n")
    assert levels(check_tokens_file(path)) == {Level.WARNING}


async def test_a_tokens_file_is_examined_where_one_is_set(tmp_path: Path) -> None:
    found = await examine(installation(tmp_path, settings=settings_for(tmp_path, tokens_file=tmp_path / "missing")))
    assert [one.name for one in found if one.level is Level.PROBLEM] == ["tokens file"]


async def test_a_local_engine_that_cannot_draw_is_a_problem(tmp_path: Path) -> None:
    # A worker that finds another numpy first, which is none.
    (tmp_path / "numpy.py").write_text("raise ImportError('broken')")
    broken = {**child_environment(), "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    (found,) = await check_local_engine(broken)
    assert found.level is Level.PROBLEM
    assert "does not work" in found.message


def test_what_cannot_be_read_is_kept_as_a_finding_to_be() -> None:
    error = ConfigurationError("no")

    def fails() -> int:
        raise error

    assert attempt(fails) is error
    assert attempt(lambda: 3) == 3


async def test_online_every_vendor_is_asked_about_its_key_and_nothing_is_ordered(tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings(balance=1000))
    async with serving(sandbox) as base_url:
        vendors = {name: vendor(one.key, f"{base_url}/{name}") for name, one in SANDBOX_VENDORS.items() if one.key}
        vendors["bfl"] = vendor(KEY, f"{base_url}/bfl")
        vendors["stability"] = vendor(KEY, "http://127.0.0.1:9")
        classes = {**provider_classes(), "plug-in": Faulty}
        vendors["plug-in"] = vendor(SANDBOX_VENDORS["stability"].key, f"{base_url}/stability")
        asked = installation(tmp_path, vendors=vendors, classes=classes, online=True)
        found = await check_accounts(asked.vendors, asked.classes)
    said = {one.name: one for one in found}
    assert said.keys() == vendors.keys()
    assert "Balance: 1,000 points ($1.00)" in said["legnext"].message
    assert "Balance: 1,000 credits" in said["apiframe"].message
    assert "Balance: " in said["apimart"].message
    assert "accepts the key, and tells no balance" in said["replicate"].message
    for name in ("fal", "bria", "openai", "vtrix", "piapi"):
        assert "no free call is known" in said[name].message
    assert said["bfl"].level is Level.PROBLEM
    assert "the key is refused" in said["bfl"].message
    assert said["stability"].level is said["plug-in"].level is Level.WARNING
    assert exit_code(found) == 2
    assert not any(sandbox.orders(name) for name in SANDBOX_VENDORS)
    shown = as_text(found, asked=True) + as_json(found, asked=True)
    assert KEY not in shown
    assert NO_VENDOR_CONTACTED not in shown


class Faulty(Stability):
    """A plug-in whose reader is broken."""

    def parse_account(self, body: Any) -> Balance:
        raise KeyError(KEY)


async def test_an_engine_of_ones_own_is_asked_what_it_is_and_has(tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings())
    engine = sandbox.vendors["comfyui"]
    assert isinstance(engine, ComfyUI)

    async def found(base_url: str, **more: Any) -> Finding:
        (one,) = await check_engines({"comfyui": vendor(None, base_url, **more)}, provider_classes())
        return one

    async with serving(sandbox) as base_url:
        well = await found(f"{base_url}/comfyui")
        assert (well.level, well.advice) == (Level.OK, "")
        assert well.message == (
            "ComfyUI 0.27.0 on cpu, 24 GB has the models 512-inpainting-ema.safetensors. It draws by inpaint "
            "checkpoint with 512-inpainting-ema.safetensors."
        )
        engine.choices = {}
        bare = await found(f"{base_url}/comfyui")
        assert (bare.level, "512-inpainting-ema.safetensors in models/checkpoints" in bare.advice) == (
            Level.PROBLEM,
            True,
        )
        wrong = await found(f"{base_url}/comfyui", workflow=tmp_path / "none.json")
        assert (wrong.level, "COMFYUI_WORKFLOW names cannot be read" in wrong.message) == (Level.PROBLEM, True)
    down = await found("http://127.0.0.1:9")
    assert (down.level, "cannot be reached" in down.message) == (Level.WARNING, True)
    assert "start ComfyUI" in down.advice
    public = await found("http://203.0.114.9:8188")
    assert (public.level, "was not asked" in public.message) == (Level.OK, True)
    sandbox.close()


@pytest.mark.parametrize(
    ("engine", "settings", "level", "told"),
    [
        ("iopaint", {}, Level.OK, "IOPaint runs runwayml/stable-diffusion-inpainting, which takes a prompt."),
        ("iopaint", {"iopaint_model": "lama"}, Level.OK, "IOPaint runs lama, an erase model, which takes no prompt"),
        ("sdapi", {}, Level.OK, "draws with sd-v1-5-inpainting.safetensors [00000012]. It also has dreamshaper_8."),
        ("sdapi", {"sdapi_models": ("dreamshaper_8",)}, Level.OK, "which is not made for inpainting by its name."),
        ("sdapi", {"sdapi_models": ()}, Level.PROBLEM, "has no checkpoint"),
        ("sdapi", {"sdapi_server": "sd.cpp"}, Level.OK, "sd-server answers"),
        ("sdapi", {"sdapi_login": "user:pass"}, Level.WARNING, "refused"),
    ],
)
async def test_engines_that_draw_while_they_are_waited_for_say_what_would_be_used(
    engine: str, settings: dict[str, Any], level: Level, told: str
) -> None:
    sandbox = Sandbox(SandboxSettings(**settings))
    async with serving(sandbox) as base_url:
        (found,) = await check_engines({engine: vendor(None, f"{base_url}/{engine}")}, provider_classes())
    assert (found.level, told in found.message) == (level, True), found
    (down,) = await check_engines({engine: vendor(None, "http://127.0.0.1:9")}, provider_classes())
    assert (down.level, "by itself it listens on" in down.advice) == (Level.WARNING, True)
    sandbox.close()
