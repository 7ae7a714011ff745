"""Opens the store where the settings have it: in a file of this machine, or in a database."""

from pathlib import Path

from outpaint_mcp.domain.clock import Clock, SystemClock
from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.storage.sqlite.store import SqliteStore
from outpaint_mcp.storage.store import Store


def open_store(path: Path, owner: str, *, database_url: str | None, seal_key: str | None) -> tuple[Store, Clock]:
    """The store, which connects on first use, and the clock that its times are of.

    Args:
        path: the file, if there is no database.
        owner: this process's name among those that share the store.
        database_url: the database.
        seal_key: with a database, what its secrets are sealed with.

    Raises:
        ConfigurationError: psycopg is not installed, or there is no usable key.
    """
    if database_url is None:
        return SqliteStore(path, owner), SystemClock()
    try:
        from outpaint_mcp.storage.postgres.seal import Seal
        from outpaint_mcp.storage.postgres.store import PostgresStore
    except ImportError:
        raise ConfigurationError(
            "A store in PostgreSQL needs the package psycopg.",
            "Install outpaint-mcp[platform], or unset OUTPAINT_DATABASE_URL.",
        ) from None
    if seal_key is None:
        raise ConfigurationError(
            "OUTPAINT_DATABASE_URL is set and OUTPAINT_SEAL_KEY is not.",
            "Make a key with outpaint-mcp db key, and give every server the same.",
        )
    store = PostgresStore(database_url, owner, Seal(seal_key))
    return store, store.clock
