"""Which task answers for an order that is made again. Reads rows inside the store's transactions."""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from outpaint_mcp.domain.order import InputImage
from outpaint_mcp.domain.record import REUSE_SECONDS, Record
from outpaint_mcp.storage import rows

if TYPE_CHECKING:
    import sqlite3


def standing(
    db: "sqlite3.Connection", client: str, identities: Collection[str], now: float, *, repeat: bool
) -> str | None:
    """The id of the newest task that answers for an order of one of these identities, made again.

    The task and its first order both have the identity, so that it is found if one of the two is damaged.
    One that is open does; without `repeat` one that has just succeeded does too, and one of which nobody knows what
    became (or whose status cannot be read), until a newer one has succeeded.
    """
    row = db.execute(
        "WITH wanted AS (SELECT value FROM json_each(?2)), same AS (SELECT rowid, id, status, finished_at"
        " FROM tasks WHERE id IN (SELECT id FROM tasks WHERE caller = ?1 AND order_hash IN wanted"
        " UNION SELECT task_id FROM orders WHERE position = 0 AND identity IN wanted))"
        " SELECT id FROM same WHERE status IN ('queued', 'running')"
        " OR (NOT ?3 AND (status = 'succeeded' AND finished_at > ?4 OR status NOT IN"
        " ('queued', 'running', 'succeeded', 'failed', 'cancelled') AND NOT EXISTS"
        " (SELECT 1 FROM same AS later WHERE later.status = 'succeeded' AND later.rowid > same.rowid)))"
        " ORDER BY rowid DESC LIMIT 1",
        (client, json.dumps(list(identities)), repeat, now - REUSE_SECONDS),
    ).fetchone()
    return None if row is None else str(row[0])


def images_of(db: "sqlite3.Connection", url_hash: str, now: float, *, repeat: bool) -> list[InputImage]:
    """The images that a client's URL has given to its orders since the oldest that may still stand, newest first.

    `url_hash` is of both, the client and the URL.

    Raises:
        ConfigurationError: an order that answers for one of this URL made again cannot be read: it may be the same.
    """
    found = db.execute(
        "SELECT id, plan, provider, status IN ('queued', 'running'), status = 'succeeded' AND finished_at <= ?2"
        " FROM tasks WHERE source_hash = ?1"
        " AND status NOT IN ('failed', 'cancelled') AND rowid >= (SELECT MIN(rowid) FROM tasks WHERE"
        " source_hash = ?1 AND (status NOT IN ('succeeded', 'failed', 'cancelled')"
        " OR status = 'succeeded' AND finished_at > ?2)) ORDER BY rowid DESC",
        (url_hash, now - REUSE_SECONDS),
    )
    return rows.images_of(found, repeat=repeat)


def identities(db: "sqlite3.Connection", record: Record, now: float, *, repeat: bool) -> set[str]:
    """The identities of a record's order: of its own image, and of every other one that its URL has given."""
    url_hash = None if record.order is None else record.order.source_hash(record.client)
    images = [] if url_hash is None else images_of(db, url_hash, now, repeat=repeat)
    return rows.identities_of(record, images)
