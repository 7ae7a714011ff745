"""What an operator does with the database: upgrading its tables, and looking whether all is well."""

from dataclasses import dataclass

import psycopg

from outpaint_mcp.storage.postgres.database import CONNECTION, Connection, unusable
from outpaint_mcp.storage.postgres.records import STALLED_SECONDS
from outpaint_mcp.storage.postgres.schema import check_version, upgrade, versions


async def upgrade_database(url: str) -> tuple[int, int]:
    """Bring the tables to this program's version; returns the version that they had, and the one that they have.

    Raises:
        ConfigurationError: the database cannot be used, or is a newer program's.
    """
    try:
        async with await Connection.connect(url, autocommit=True, **CONNECTION) as connection:  # type: ignore[arg-type]
            return await upgrade(connection)
    except psycopg.Error as error:
        raise unusable(error) from error


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to know of a database.

    `server` is PostgreSQL's version. `standbys` says which standbys a commit waits for, as in the server's own setting;
    empty for none. `loses_commits` says that the server tells of commits before they are on its disk. `in_recovery`:
    it is a standby, and cannot be written. `workers` is how many draw and copy.
    """

    server: str
    version: int
    standbys: str
    loses_commits: bool
    in_recovery: bool
    workers: int


async def look(url: str) -> Found:
    """Look at a database.

    Raises:
        ConfigurationError: it cannot be used, or this program must not work on its tables.
    """
    try:
        async with await Connection.connect(url, autocommit=True, **CONNECTION) as connection:  # type: ignore[arg-type]
            version, readable_from = await versions(connection)
            check_version(version, readable_from)
            row = await (
                await connection.execute(
                    "SELECT current_setting('server_version'), current_setting('synchronous_standby_names'),"
                    " current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off',"
                    " pg_is_in_recovery(), (SELECT COUNT(*) FROM procrastinate_workers"
                    " WHERE last_heartbeat > now() - make_interval(secs => %s))",
                    (STALLED_SECONDS,),
                )
            ).fetchone()
    except psycopg.Error as error:
        raise unusable(error) from error
    if row is None:
        raise TypeError("a SELECT without FROM has one row")
    server, standbys, loses_commits, in_recovery, workers = row
    return Found(str(server), version, str(standbys), bool(loses_commits), bool(in_recovery), int(str(workers)))
