"""``outpaint-mcp db``: upgrades the tables, looks whether the database is fit for orders, and makes a key."""

import argparse

import anyio

from outpaint_mcp.bootstrap import configured
from outpaint_mcp.cli.commands import DONE, print_line
from outpaint_mcp.cli.findings import Finding, Level, as_lines, exit_code, problem, warning
from outpaint_mcp.domain.errors import ConfigurationError, OutpaintError


def add_database_commands(parser: argparse.ArgumentParser) -> None:
    """Give ``db`` its actions."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for action, run, words in (
        ("upgrade", _upgrade, "make the tables, or bring them to this version"),
        ("check", _check, "look whether the database can be used"),
        ("key", _key, "print a new key for OUTPAINT_SEAL_KEY"),
    ):
        actions.add_parser(action, help=words).set_defaults(run=run)


def _upgrade(_: argparse.Namespace) -> int:
    from outpaint_mcp.storage.postgres.admin import upgrade_database

    before, after = anyio.run(upgrade_database, _url())
    print_line(f"The tables are of version {after}{' already' if before == after else ' now'}.")
    return DONE


def _check(_: argparse.Namespace) -> int:
    found = anyio.run(check_database, _url(), configured().workers)
    print_line(as_lines(found))
    return exit_code(found)


def _key(_: argparse.Namespace) -> int:
    from outpaint_mcp.storage.postgres.seal import new_key

    print_line(new_key())
    return DONE


async def check_database(url: str, workers: bool) -> list[Finding]:
    """Whether the store in this database can be used, is safe for orders, and has the workers that servers rely on."""
    from outpaint_mcp.storage.postgres.admin import look

    try:
        found = await look(url)
    except OutpaintError as error:
        return [problem("database", error.message, error.advice)]
    said = [Finding("database", Level.OK, f"PostgreSQL {found.server}, tables of version {found.version}.")]
    if found.in_recovery:
        said.append(problem("database", "It is a standby, which cannot be written.", "Give the primary's address."))
    if found.loses_commits:
        message = "It tells of commits that are not on its disk yet (fsync or synchronous_commit is off)."
        advice = "Turn both on: an order that it forgets may be placed twice."
        said.append(problem("database", message, advice))
    elif not found.standbys:
        message = "No commit waits for a standby: after a failover to one, the last orders may be placed twice."
        advice = "If there is a standby, name it in synchronous_standby_names."
        said.append(warning("database", message, advice))
    if workers and not found.workers:
        message = "No worker draws and copies, and servers leave that to workers (OUTPAINT_WORKERS)."
        said.append(problem("database", message, "Start one: outpaint-mcp worker."))
    return said


def _url() -> str:
    from outpaint_mcp.settings import reveal

    url = reveal(configured().database_url)
    if url is None:
        raise ConfigurationError("OUTPAINT_DATABASE_URL is not set.", "Set it to the database's URI.")
    return url
