"""What no answer, log line or file ever holds: keys, webhook secrets, and the queries of the client's URLs."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from outpaint_mcp.domain.errors import OutpaintError
from outpaint_mcp.domain.request import Feature, OutpaintRequest, SourceKind, Webhook
from outpaint_mcp.providers import provider_classes
from outpaint_mcp.sandbox import seed_id

from .service_at_sandbox import VENDORS, WITH_TASKS, service_at_sandbox

CLASSES = provider_classes()


def texts(folder: Path) -> list[tuple[Path, str]]:
    """Every file that a program left behind, images apart."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".jpeg")]
    return [(path, path.read_bytes().decode("latin-1")) for path in kept]


SECRETS = ("planted-hook-query", "planted-hook-secret", "planted-image-query", "sandbox-", "afk_sandbox")


async def test_no_key_secret_or_query_is_shown_logged_or_stored_whatever_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="outpaint_mcp")
    told: list[str] = []
    faults: list[tuple[str, dict[str, Any]]] = [
        ("submit", {"fault": "status", "status": 401}),
        ("submit", {"fault": "status", "status": 500}),
        ("submit", {"fault": "drop"}),
        ("submit", {"fault": "html", "status": 200, "accepted": True}),
        ("submit", {"fault": "fail"}),
        ("poll", {"fault": "status", "status": 500, "times": 3}),
        ("poll", {"fault": "html", "status": 200, "times": 3}),
        ("image", {"fault": "gone", "times": 10}),
    ]
    async with service_at_sandbox(tmp_path) as at:
        for on, fault in faults:
            for vendor in VENDORS:
                at.sandbox.faults.clear()
                at.fault(vendor, on, **fault)
                kind = SourceKind.TASK if vendor in WITH_TASKS else SourceKind.IMAGE
                limits = at.service._providers[vendor].limits(kind)
                secret = "planted-hook-secret" if Feature.WEBHOOK_SECRET in limits else None
                webhook = Webhook("https://127.0.0.1/hook?token=planted-hook-query", secret)
                asked: dict[str, Any] = {"webhook": webhook if Feature.WEBHOOK_URL in limits else None, "repeat": True}
                try:
                    told.append((await at.order(vendor, **asked)).model_dump_json())
                except OutpaintError as error:
                    told.append(f"{error!r} {error}")
                await anyio.lowlevel.checkpoint()
        found = await at.service.get_task(seed_id("legnext", grid=False), provider="legnext")
        image = found.images[0].url + "?token=planted-image-query"
        for provider in [name for name, one in CLASSES.items() if SourceKind.IMAGE in one.operations]:
            at.sandbox.faults.clear()
            try:
                prompt = "x" if Feature.PROMPT in CLASSES[provider].limits(SourceKind.IMAGE) else None
                request = OutpaintRequest(image=image, provider=provider, zoom=1.5, prompt=prompt)
                told.append((await at.finished(request)).model_dump_json())
            except OutpaintError as error:
                told.append(f"{error!r} {error}")
        told += [task.model_dump_json() for task in await at.service.recent(limit=1000)]
    stored = sqlite3.connect(tmp_path / "store.db")
    told += [str(row) for table in ("tasks", "orders", "kept") for row in stored.execute(f"SELECT * FROM {table}")]  # noqa: S608
    stored.close()
    told += [text for _, text in texts(tmp_path)]
    told += [record.getMessage() for record in caplog.records]
    assert len(told) > 40
    for secret in SECRETS:
        assert not [text for text in told if secret in text], secret
