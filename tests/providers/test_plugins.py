"""A provider from another package, through its entry point."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ..serving import picture

ACME = """
from typing import Any, ClassVar

from outpaint_mcp.providers.answers import Answer
from outpaint_mcp.providers.http_provider import HttpProvider
from outpaint_mcp.domain.order import Order
from outpaint_mcp.domain.provider_info import SourceForm
from outpaint_mcp.domain.request import Feature, SourceKind
from outpaint_mcp.domain.task import ResultImage, Status
from outpaint_mcp.providers.http_client import ApiCall
from outpaint_mcp.domain.task import TaskUpdate
from outpaint_mcp.providers.base import ZoomLimits


class _Made(Answer):
    number: int
    state: str = "making"
    picture: str = ""


class Acme(HttpProvider):
    name = "acme"
    title = "Acme"
    base_url = "https://acme.example"
    key_env = "ACME_API_KEY"
    docs_url = "https://acme.example/docs"
    price = "free"
    image_lifetime = "unknown"
    sources = (SourceForm.OWN_IMAGE,)
    features: ClassVar[Any] = {SourceKind.IMAGE: {Feature.PROMPT: "any"}}
    zoom: ClassVar[Any] = {SourceKind.IMAGE: ZoomLimits(1.5, 2.0)}
    statuses: ClassVar[Any] = {"making": Status.RUNNING, "made": Status.SUCCEEDED}
    first_poll = poll_interval = usual_seconds = 1.0

    def build_submit(self, order: Order, image_url: str | None = None) -> ApiCall:
        return ApiCall("POST", "/make", json={"zoom": order.zoom, "what": order.prompt})

    def build_fetch(self, remote_id: str) -> ApiCall:
        return ApiCall("GET", f"/made/{remote_id}")

    def parse_submit(self, body: Any) -> TaskUpdate:
        return self.parse_fetch(body)

    def parse_fetch(self, body: Any) -> TaskUpdate:
        made = self.read_as(_Made, body)
        status, notes = self.status_of(made.state)
        images = (ResultImage(made.picture),) if made.picture else ()
        return TaskUpdate(status, str(made.number), images=images, notes=notes)


class Impostor(Acme):
    name = "legnext"
"""
ENTRY_POINTS = """
[outpaint_mcp.providers]
acme = outpaint_acme:Acme
impostor = outpaint_acme:Impostor
broken = outpaint_acme:Nothing
wrong = json:JSONDecoder
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder that holds the package as if it were installed there."""
    folder = tmp_path / "site"
    about = folder / "outpaint_acme-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "outpaint_acme.py").write_text(ACME)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outpaint-acme\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[tuple[str, list[Any]]]:
    """The invented vendor on loopback, and what it was asked to make."""
    asked: list[Any] = []
    made = picture(tmp_path, width=90, height=60, name="made.png").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.answer(json.dumps({"number": 7}).encode(), "application/json")

        def do_GET(self) -> None:
            if self.path == "/picture.png":
                self.answer(made, "image/png")
            else:
                host = f"http://127.0.0.1:{server.server_port}"
                body = {"number": 7, "state": "made", "picture": f"{host}/picture.png"}
                self.answer(json.dumps(body).encode(), "application/json")

        def answer(self, body: bytes, mime_type: str) -> None:
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
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_sixth_vendor_is_listed_and_ordered_from_and_bad_plugins_only_warn(
    tmp_path: Path, plugin: Path, acme: tuple[str, list[Any]]
) -> None:
    base_url, asked = acme
    environment = {
        **os.environ,
        "PYTHONPATH": str(plugin),
        "OUTPAINT_DATA_DIR": str(tmp_path / "data"),
        "OUTPAINT_ALLOW_PRIVATE_URLS": "true",
        "OUTPAINT_POLL_SECONDS": "0,0.05",
        "ACME_API_KEY": "key",
        "ACME_BASE_URL": base_url,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "outpaint_mcp", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    listed = run("providers", "--json")
    names = [one["name"] for one in json.loads(listed.stdout)["providers"]]
    assert names == ["legnext", "apiframe", "apimart", "vtrix", "piapi", "local", "acme"]
    assert "impostor has the name legnext, which is taken" in listed.stderr
    assert "broken cannot be loaded" in listed.stderr
    assert "wrong is not a Provider class" in listed.stderr

    picture(tmp_path)
    order = ["outpaint", "picture.png", "--provider", "acme", "--zoom", "1.5", "--prompt", "a lake", "-o", "out.png"]
    done = run(*order)
    assert done.returncode == 0, done.stderr
    assert asked == [{"zoom": 1.5, "what": "a lake"}]
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "made.png").read_bytes()
    refused = run("outpaint", "picture.png", "--provider", "acme", "--zoom", "1.2")
    assert (refused.returncode, "1.5 to 2" in refused.stderr) == (2, True)
