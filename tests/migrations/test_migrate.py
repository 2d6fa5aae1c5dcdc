"""``migrate.upgrade``, ``current``, ``check`` and ``offline_sql``, and migrations that fail."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from workflow_world.errors import BackendError, SchemaError, WorldError
from workflow_world.sql import migrate

from .helpers import TABLES, VERSION, ask, dump, schema, table_names


def test_upgrade_creates_a_missing_file_and_can_be_repeated(url: str, path: Path) -> None:
    migrate.upgrade(url, environ={})
    assert table_names(path) == {*TABLES, VERSION}
    before = dump(path)
    migrate.upgrade(url, environ={})
    assert dump(path) == before


def test_upgrade_takes_the_url_from_the_environment(url: str, path: Path) -> None:
    migrate.upgrade(environ={"WORKFLOW_DATABASE_URL": url})
    assert table_names(path) == {*TABLES, VERSION}


@pytest.mark.parametrize("value", ["0", "false", "off"])
def test_upgrade_is_what_one_runs_when_auto_migrate_is_off(
    url: str, path: Path, value: str
) -> None:
    """The error of a World without auto_migrate says to run this very command."""
    environ = {"WORKFLOW_AUTO_MIGRATE": value}
    migrate.upgrade(url, environ=environ)
    assert migrate.current(url, environ=environ) == migrate.HEAD
    migrate.check(url, environ=environ)


def test_current(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (id)")
        connection.commit()
    assert migrate.current(url, environ={}) is None
    migrate.upgrade(url, environ={})
    assert migrate.current(url, environ={}) == migrate.HEAD
    assert migrate.current(url, environ={}, table_prefix="x_") is None


def test_check(url: str, path: Path) -> None:
    path.touch()
    with pytest.raises(SchemaError, match="run 'workflow-world db upgrade'"):
        migrate.check(url, environ={})
    migrate.upgrade(url, environ={})
    migrate.check(url, environ={})
    with pytest.raises(SchemaError, match="no workflow-world schema"):
        migrate.check(url, environ={}, table_prefix="x_")


def test_tables_without_their_version_are_refused(url: str, path: Path) -> None:
    """As after a test's fixture that empties every table."""
    migrate.upgrade(url, environ={})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM workflow_world_version")
        connection.commit()
    for command in (migrate.current, migrate.check, migrate.upgrade):
        with pytest.raises(SchemaError, match="INSERT INTO") as caught:
            command(url, environ={})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"INSERT INTO{str(caught.value).split('INSERT INTO')[1].split(';')[0]}")
        connection.commit()
    migrate.check(url, environ={})


@pytest.mark.parametrize("command", [migrate.current, migrate.check])
def test_looking_creates_and_changes_nothing(tmp_path: Path, command: object) -> None:
    assert callable(command)
    with pytest.raises(BackendError, match="does not exist"):
        command(f"file:{tmp_path / 'missing.db'}", environ={})
    assert list(tmp_path.iterdir()) == []
    plain = tmp_path / "plain.db"
    with closing(sqlite3.connect(plain)) as connection:
        connection.execute("CREATE TABLE customers (id)")
        connection.commit()
    before = plain.read_bytes()
    with contextlib.suppress(SchemaError):
        command(f"file:{plain}", environ={})
    assert plain.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["plain.db"]


@pytest.mark.parametrize("revision", ["nonsense", "9999", "0001:head"])
def test_an_unknown_revision_is_one_clear_line(url: str, path: Path, revision: str) -> None:
    with pytest.raises(WorldError) as caught:
        migrate.upgrade(url, revision, environ={})
    assert "\n" not in str(caught.value)
    assert "revision" in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("revision", ["nonsense", "9999"])
def test_an_unknown_revision_cannot_be_printed(url: str, path: Path, revision: str) -> None:
    with pytest.raises(WorldError, match="revision"):
        migrate.offline_sql(url, revision)


@pytest.mark.parametrize("prefix", ["", "x_"])
def test_the_printed_sql_makes_the_same_schema(
    url: str, path: Path, tmp_path: Path, prefix: str
) -> None:
    text = migrate.offline_sql(url, prefix=prefix)
    assert not path.exists()
    by_hand = tmp_path / "by-hand.db"
    with closing(sqlite3.connect(by_hand)) as connection:
        connection.executescript(text)
    migrate.upgrade(url, environ={}, table_prefix=prefix)
    assert schema(by_hand) == schema(path)
    migrate.check(f"file:{by_hand}", environ={}, table_prefix=prefix)


# --- a migration that fails ------------------------------------------------------------------

FAILING = '''
"""Adds a table, changes one, fills another, and fails."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("CREATE TABLE extra (id TEXT)")
    op.execute("ALTER TABLE workflow_runs ADD COLUMN extra TEXT")
    op.execute("UPDATE workflow_runs SET extra = 'x'")
    op.execute("{last}")
'''


@pytest.fixture
def second_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one revision more; the test writes it. (No release has two yet.)"""
    scripts = tmp_path / "scripts" / "alembic"
    shutil.copytree(migrate.scripts(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "scripts", lambda: scripts)
    monkeypatch.setattr(migrate, "HEAD", "0002")
    monkeypatch.setattr(migrate, "KNOWN", ("0001", "0002"))
    return scripts / "versions" / "0002_extra.py"


def with_a_run(url: str, path: Path) -> None:
    migrate.upgrade(url, environ={})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO workflow_runs (run_id, status, deployment_id, workflow_name, attributes,"
            " created_at, updated_at) VALUES ('wrun_1', 'pending', 'd', 'w', '{}', 1, 1)"
        )
        connection.commit()


def test_a_failing_migration_leaves_everything_as_it_was(
    url: str, path: Path, request: pytest.FixtureRequest
) -> None:
    with_a_run(url, path)
    before = dump(path)
    revision: Path = request.getfixturevalue("second_revision")
    revision.write_text(FAILING.format(last="INSERT INTO nobody VALUES (1)"))
    for _ in range(2):
        with pytest.raises(BackendError, match="nobody") as caught:
            migrate.upgrade(url, environ={})
        assert "\n" not in str(caught.value)
        assert dump(path) == before
    # Once it is mended the same database goes on.
    revision.write_text(FAILING.format(last="INSERT INTO extra VALUES ('done')"))
    migrate.upgrade(url, environ={})
    assert ask(path, "SELECT run_id, extra FROM workflow_runs") == [("wrun_1", "x")]
    assert migrate.current(url, environ={}) == "0002"


def test_a_first_migration_that_fails_leaves_no_table(
    url: str, path: Path, second_revision: Path
) -> None:
    second_revision.write_text(FAILING.format(last="INSERT INTO nobody VALUES (1)"))
    with pytest.raises(BackendError, match="nobody"):
        migrate.upgrade(url, environ={})
    assert table_names(path) == set()


def test_an_older_schema_is_refused_without_auto_migrate_and_upgraded_with(
    url: str, path: Path, request: pytest.FixtureRequest
) -> None:
    with_a_run(url, path)
    revision: Path = request.getfixturevalue("second_revision")
    revision.write_text(FAILING.format(last="INSERT INTO extra VALUES ('done')"))
    before = dump(path)
    with pytest.raises(SchemaError, match=r"is at 0001.*0002 is needed.*db upgrade"):
        migrate.check(url, environ={})
    assert dump(path) == before
    migrate.upgrade(url, environ={})
    migrate.check(url, environ={})
    assert ask(path, "SELECT extra FROM workflow_runs") == [("x",)]


def test_upgrading_to_an_older_revision_stops_there(
    url: str, path: Path, second_revision: Path
) -> None:
    second_revision.write_text(FAILING.format(last="INSERT INTO extra VALUES ('done')"))
    migrate.upgrade(url, "0001", environ={})
    assert ask(path, "SELECT version_num FROM workflow_world_version") == [("0001",)]
    assert "extra" not in table_names(path)
