"""A provider from another package, through its entry point."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from outpaint_mcp.providers.registry import BUILT_IN

from ..serving import picture

ACME = """
from typing import Any, ClassVar

import outpaint_mcp.providers as api


class _Made(api.Answer):
    number: api.Number
    state: api.Text = "making"
    picture: api.Text = ""


class Acme(api.HttpProvider):
    name = "acme"
    title = "Acme"
    base_url = "https://acme.example"
    key_env = "ROADRUNNER_TOKEN"
    auth_header = ("X-Acme-Token", "{key}")
    fetch_path = "/made/{id}"
    docs_url = "https://acme.example/docs"
    price = "free"
    image_lifetime = "unknown"
    sources = (api.SourceForm.OWN_IMAGE,)
    operations: ClassVar = {
        api.SourceKind.IMAGE: api.Operation(
            "/make",
            source=api.Argument(wire="picture"),
            zoom=api.Zoom(1.5, 2.0, wire="how.zoom"),
            arguments={
                api.Feature.PROMPT: api.Argument("any", "what", required=True),
                api.Feature.PROVIDER_OPTIONS: api.Argument("merged into the body"),
            },
            constants={"how": {"kind": "outward"}},
        )
    }
    uploads = True
    statuses: ClassVar = api.status_words(running="making", succeeded="made")
    first_poll = poll_interval = usual_seconds = 1.0

    def build_upload(self, image: api.InputImage, data: bytes) -> api.ApiCall:
        return api.ApiCall("POST", "/upload", files=(api.UploadFile("file", "image.png", image.mime_type, data),))

    def parse_upload(self, body: Any) -> str:
        return str(body["at"])

    def parse_fetch(self, body: Any) -> api.TaskUpdate:
        made = self.read_as(_Made, body)
        return self.update(made.state, remote_id=f"{made.number:g}", urls=(made.picture,))


class Impostor(Acme):
    name = "legnext"


class Unfinished(api.HttpProvider):
    name = "unfinished"
"""
ENTRY_POINTS = {
    "acme": "outpaint_acme:Acme",
    "impostor": "outpaint_acme:Impostor",
    "unfinished": "outpaint_acme:Unfinished",
    "broken": "outpaint_acme:Nothing",
    "wrong": "json:JSONDecoder",
}
ANSWERS: dict[str, dict[str, Any]] = {
    "/upload": {"at": "https://acme.example/up/1"},
    "/make": {"number": 7},
    "/v1/outpaint": {"id": "j1", "state": "waiting"},
}
DOCUMENTED = Path(__file__).parents[2] / "docs" / "plugins.md"


def installed(folder: Path, code: str, points: dict[str, str]) -> Path:
    """A folder that holds the package as if it were installed there."""
    about = folder / "outpaint_acme-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "outpaint_acme.py").write_text(code)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outpaint-acme\nVersion: 1.0\n")
    lines = ["[outpaint_mcp.providers]", *(f"{name} = {place}" for name, place in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[tuple[str, list[tuple[str, str | None, bytes]]]]:
    """The invented vendor on loopback; and the path, the token and the body of what was POSTed to it."""
    posted: list[tuple[str, str | None, bytes]] = []
    made = picture(tmp_path, width=90, height=60, name="made.png").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            posted.append((self.path, self.headers["x-acme-token"] or self.headers["authorization"], body))
            self.answer(ANSWERS[self.path])

        def do_GET(self) -> None:
            at = f"http://127.0.0.1:{server.server_port}/picture.png"
            if self.path == "/picture.png":
                self.send(made, "image/png")
            elif self.path == "/made/7":
                self.answer({"number": 7, "state": "Made", "picture": at})
            elif self.path == "/v1/jobs/j1":
                self.answer({"id": "j1", "state": "done", "images": [at]})
            else:
                self.send_error(404)

        def answer(self, body: dict[str, Any]) -> None:
            self.send(json.dumps(body).encode(), "application/json")

        def send(self, body: bytes, mime_type: str) -> None:
            self.send_response(200)
            self.send_header("content-type", mime_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def run_with(plugin: Path, base_url: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command, in the folder above the plug-in's."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(plugin),
        "OUTPAINT_DATA_DIR": str(plugin.parent / "data"),
        "OUTPAINT_ALLOW_PRIVATE_URLS": "true",
        "OUTPAINT_POLL_SECONDS": "0,0.05",
        "ACME_BASE_URL": base_url,
        **more,
    }
    command = [sys.executable, "-m", "outpaint_mcp", *arguments]
    return subprocess.run(
        command, cwd=plugin.parent, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_sixth_vendor_is_listed_and_ordered_from_and_bad_plugins_only_warn(
    tmp_path: Path, acme: tuple[str, list[tuple[str, str | None, bytes]]]
) -> None:
    base_url, posted = acme
    plugin = installed(tmp_path / "site", ACME, ENTRY_POINTS)

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_with(plugin, base_url, *arguments, **more)

    # The name of the key's variable is the plug-in's own; one made of its name counts for nothing.
    listed = run("providers", "--json", ACME_API_KEY="key")
    providers = {one["name"]: one for one in json.loads(listed.stdout)["providers"]}
    assert list(providers) == [*BUILT_IN, "acme"]
    assert providers["acme"]["needs"] == ["ROADRUNNER_TOKEN"]
    assert "impostor has the name legnext, which is taken" in listed.stderr
    assert "broken cannot be loaded" in listed.stderr
    assert "wrong is not a Provider class" in listed.stderr
    assert "unfinished lacks base_url, key_env" in listed.stderr

    picture(tmp_path)
    order = ["outpaint", "picture.png", "--provider", "acme", "--zoom", "1.5", "--prompt", "a lake", "-o", "out.png"]
    done = run(*order, ROADRUNNER_TOKEN="beep-beep")
    assert done.returncode == 0, done.stderr
    (upload, *_), (path, token, body) = posted
    assert (upload, path, token) == ("/upload", "/make", "beep-beep")
    assert json.loads(body) == {
        "picture": "https://acme.example/up/1",
        "what": "a lake",
        "how": {"kind": "outward", "zoom": 1.5},
    }
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "made.png").read_bytes()
    for arguments, told in ((("--zoom", "1.2", "--prompt", "x"), "1.5 to 2"), (("--zoom", "1.5"), "needs a prompt")):
        refused = run("outpaint", "picture.png", "--provider", "acme", *arguments, ROADRUNNER_TOKEN="beep-beep")
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    assert len(posted) == 2


def test_the_documented_plugin_orders_an_image_and_fetches_it(
    tmp_path: Path, acme: tuple[str, list[tuple[str, str | None, bytes]]]
) -> None:
    base_url, posted = acme
    page = DOCUMENTED.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    points = tomllib.loads(project)["project"]["entry-points"]["outpaint_mcp.providers"]
    plugin = installed(tmp_path / "site", code, points)
    picture(tmp_path, width=48, height=32)
    order = ["outpaint", "picture.png", "--provider", "acme", "--zoom", "1.5", "--sides", "left", "--prompt", "a lake"]
    done = run_with(plugin, base_url, *order, "-o", "out.png", ACME_TOKEN="beep-beep")
    assert done.returncode == 0, done.stderr
    ((path, authorization, sent),) = posted
    body = json.loads(sent)
    assert (path, authorization) == ("/v1/outpaint", "Bearer beep-beep")
    assert body.pop("image").startswith("data:image/")
    assert body == {"left": 24, "right": 0, "top": 0, "bottom": 0, "prompt": "a lake"}
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "made.png").read_bytes()
