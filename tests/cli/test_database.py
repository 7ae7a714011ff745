"""``outpaint-mcp db`` against a real PostgreSQL."""

import base64
import shutil
from pathlib import Path

import psycopg
import pytest
from procrastinate.schema import SchemaManager

from outpaint_mcp.cli.main import main
from outpaint_mcp.storage.postgres import schema
from outpaint_mcp.storage.postgres.seal import new_key

from ..postgres_server import PostgresServer


@pytest.fixture
def empty_url(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of a database without tables, which the program is told."""
    url = postgres_server.new_database()
    monkeypatch.setenv("OUTPAINT_DATABASE_URL", url)
    monkeypatch.setenv("OUTPAINT_DATA_DIR", str(tmp_path))
    return url


def test_the_tables_are_made_and_checked(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check"]) == 2
    assert "has no tables yet" in (told := capfd.readouterr().out)
    assert "outpaint-mcp db upgrade" in told
    assert main(["db", "upgrade"]) == 0
    assert "now" in capfd.readouterr().out
    assert main(["db", "upgrade"]) == 0
    assert "already" in capfd.readouterr().out
    # The server of these tests does not wait for its disk, which no operator's may do.
    assert main(["db", "check"]) == 2
    assert "may be placed twice" in capfd.readouterr().out


def test_tables_of_a_newer_program_are_left_alone(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "upgrade"]) == 0
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE outpaint_schema SET version = 99")
    assert main(["db", "upgrade"]) == 2
    assert "newer outpaint-mcp" in capfd.readouterr().err
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE outpaint_schema SET readable_from = 99")
    assert main(["db", "check"]) == 2
    assert "newer outpaint-mcp" in capfd.readouterr().out


def test_older_tables_are_brought_up_to_date_with_what_they_hold(empty_url: str) -> None:
    with psycopg.connect(empty_url) as connection:
        connection.execute(schema.MIGRATIONS[0].sql.encode())
        connection.execute(
            "CREATE TABLE outpaint_schema"
            " (one boolean PRIMARY KEY DEFAULT true, version integer, readable_from integer)"
        )
        connection.execute("INSERT INTO outpaint_schema VALUES (true, 1, 1)")
        connection.execute(
            "INSERT INTO tasks (id, caller, provider, status, task, plan, created_at)"
            " VALUES ('op-1', 'local', 'counting', 'queued', '{}', '{}', 1)"
        )
    assert main(["db", "upgrade"]) == 0
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT id FROM tasks").fetchall() == [("op-1",)]
        assert connection.execute("SELECT version FROM outpaint_schema").fetchall() == [(schema.VERSION,)]
        assert connection.execute("SELECT COUNT(*) FROM procrastinate_jobs").fetchone() == (0,)


def test_the_jobs_tables_are_brought_to_the_version_of_procrastinate_that_is_installed(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["db", "upgrade"]) == 0
    steps = tmp_path / "steps"
    shutil.copytree(SchemaManager.get_migrations_path(), steps)
    (steps / "99.00.00_01_later.sql").write_text("CREATE TABLE of_later (one integer);\nSELECT '100%';\n")
    monkeypatch.setattr(SchemaManager, "get_migrations_path", lambda: str(steps))
    for _ in range(2):
        assert main(["db", "upgrade"]) == 0
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT COUNT(*) FROM of_later").fetchone() == (0,)
        assert connection.execute("SELECT jobs FROM outpaint_schema").fetchone() == ("99.00.00_01_later.sql",)


def test_a_program_may_work_on_newer_tables_that_it_can_read(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "upgrade"]) == 0
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE outpaint_schema SET version = %s", (schema.VERSION + 1,))
    main(["db", "check"])
    assert f"tables of version {schema.VERSION + 1}" in capfd.readouterr().out


def test_it_is_said_that_nobody_draws_and_copies(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "upgrade"]) == 0
    main(["db", "check"])
    assert "No worker" not in capfd.readouterr().out
    monkeypatch.setenv("OUTPAINT_WORKERS", "true")
    main(["db", "check"])
    assert "Start one: outpaint-mcp worker." in capfd.readouterr().out
    with psycopg.connect(empty_url) as connection:
        connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    main(["db", "check"])
    assert "No worker" not in capfd.readouterr().out


def test_a_worker_needs_what_it_shares_with_its_servers(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTPAINT_SEAL_KEY", new_key())
    assert main(["worker"]) == 2
    assert "Set OUTPAINT_DATABASE_URL and OUTPAINT_IMAGES_URL" in capfd.readouterr().err
    monkeypatch.setenv("OUTPAINT_IMAGES_URL", "s3://bucket")
    assert main(["worker", "--metrics-port", "0"]) == 2
    assert "Run: outpaint-mcp db upgrade." in capfd.readouterr().err


def test_a_key_is_made(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "key"]) == 0
    first = capfd.readouterr().out.strip()
    assert len(base64.b64decode(first)) == 32
    main(["db", "key"])
    assert capfd.readouterr().out.strip() != first


def test_a_database_that_is_not_there_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTPAINT_DATABASE_URL", "postgresql://outpaint:planted@127.0.0.1:1/outpaint")
    assert main(["db", "check"]) == 2
    told = "".join(capfd.readouterr())
    assert "OUTPAINT_DATABASE_URL" in told
    assert "planted" not in told


def test_doctor_tells_how_the_store_is(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    assert "OUTPAINT_SEAL_KEY" in capfd.readouterr().out


def test_an_address_of_another_kind_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTPAINT_DATABASE_URL", "mysql://planted@example.com/x")
    assert main(["db", "check"]) == 2
    told = capfd.readouterr().err
    assert "postgresql://" in told
    assert "planted" not in told
