"""``alembic`` itself, from a checkout with its ini file, as a process."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from workflow_world.sql import migrate

from .helpers import ROOT, TABLES, VERSION, ask, schema, table_names


def alembic(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def good(*arguments: str, **env: str) -> str:
    done = alembic(*arguments, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_down_and_up_again(url: str, path: Path, tmp_path: Path) -> None:
    env = {"WORKFLOW_DATABASE_URL": url}
    good("upgrade", "head", **env)
    assert table_names(path) == {*TABLES, VERSION}
    assert migrate.HEAD in good("current", **env)
    good("check", **env)
    first = schema(path)

    good("downgrade", "base", **env)
    assert table_names(path) == {VERSION}
    assert ask(path, "SELECT * FROM workflow_world_version") == []
    assert migrate.current(url, environ={}) is None

    good("upgrade", "head", **env)
    assert schema(path) == first
    migrate.check(url, environ={})
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_database_that_went_down_to_base_comes_up_by_the_package(url: str, path: Path) -> None:
    good("upgrade", "head", WORKFLOW_DATABASE_URL=url)
    good("downgrade", "base", WORKFLOW_DATABASE_URL=url)
    migrate.upgrade(url, environ={})
    migrate.check(url, environ={})


def test_alembic_and_the_package_make_the_same(url: str, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    good("upgrade", "head", WORKFLOW_DATABASE_URL=url)
    migrate.upgrade(f"file:{other}", environ={})
    assert schema(path) == schema(other)
    # And each takes the other's for its own.
    good("check", WORKFLOW_DATABASE_URL=f"file:{other}")
    migrate.check(url, environ={})


def test_the_url_and_a_prefix_on_the_command_line(url: str, path: Path) -> None:
    x = ("-x", f"url={url}", "-x", "table_prefix=x_")
    good(*x, "upgrade", "head", WORKFLOW_DATABASE_URL="file:/nowhere/else.db")
    assert table_names(path) == {f"x_{name}" for name in (*TABLES, VERSION)}
    migrate.check(url, environ={}, table_prefix="x_")
    good(*x, "check")
    good(*x, "downgrade", "base")
    assert table_names(path) == {f"x_{VERSION}"}


def test_the_applications_tables_are_none_of_autogenerates_business(url: str, path: Path) -> None:
    good("upgrade", "head", WORKFLOW_DATABASE_URL=url)
    ask(path, "CREATE TABLE customers (id)")
    good("check", WORKFLOW_DATABASE_URL=url)
    good("downgrade", "base", WORKFLOW_DATABASE_URL=url)
    assert table_names(path) == {"customers", VERSION}


def test_offline_sql_is_what_the_package_prints(url: str, path: Path) -> None:
    printed = good("upgrade", "head", "--sql", WORKFLOW_DATABASE_URL=url)
    assert printed.strip() == migrate.offline_sql(url).strip()
    assert not path.exists()


def test_offline_downgrade(url: str, path: Path) -> None:
    printed = good("downgrade", "0001:base", "--sql", WORKFLOW_DATABASE_URL=url)
    assert all(f"DROP TABLE {name};" in printed for name in TABLES)
    good("upgrade", "head", WORKFLOW_DATABASE_URL=url)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(printed)
    assert table_names(path) == {VERSION}
    migrate.upgrade(url, environ={})
    migrate.check(url, environ={})


def test_several_at_once(url: str, path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = [*pool.map(lambda _: alembic("upgrade", "head", WORKFLOW_DATABASE_URL=url), "1234")]
    assert [one.returncode for one in done] == [0] * 4, [one.stderr[-500:] for one in done]
    migrate.check(url, environ={})


def refused(*arguments: str, url: str) -> str:
    """It ends in one sentence of Alembic's and no secret. Returns: the sentence."""
    done = alembic(*arguments, WORKFLOW_DATABASE_URL=url)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())  # Alembic breaks the line
    assert said.startswith("FAILED: "), said[-2000:]
    assert "Traceback" not in said
    assert "s3cret" not in said
    return said


@pytest.mark.parametrize("command", ["upgrade head", "downgrade base", "stamp head", "current"])
def test_tables_of_another_program_are_left_alone(url: str, path: Path, command: str) -> None:
    ask(path, "CREATE TABLE workflow_runs (id TEXT PRIMARY KEY)")
    said = refused(*command.split(), url=url)
    assert "did not make (workflow_runs)" in said
    assert "TypeScript" in said
    assert "table_prefix" in said
    assert ask(path, "SELECT name FROM pragma_table_info('workflow_runs')") == [("id",)]
    assert table_names(path) == {"workflow_runs"}


@pytest.mark.parametrize("command", ["upgrade head", "downgrade base"])
def test_a_newer_schema(url: str, path: Path, command: str) -> None:
    migrate.upgrade(url, environ={})
    ask(path, "UPDATE workflow_world_version SET version_num = '9999'")
    before = schema(path)
    assert "upgrade workflow-world" in refused(*command.split(), url=url)
    assert schema(path) == before


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("file:/nowhere/at/all.db", "does not exist"),
        ("mysql://user:s3cret@host/db", "Known schemes"),
        ("postgresql://user:s3cret@nowhere.invalid/db", "check the host"),
        ("postgresql+asyncpg://user:s3cret@host/db", "write postgresql://"),
    ],
)
def test_databases_that_cannot_be_used(where: str, expected: str) -> None:
    assert expected in refused("upgrade", "head", url=where)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("table_prefix=x'y", "table_prefix must be"),
        ("table_prefix=sqlite_", "table_prefix must be"),
        ("schema=flows", "SQLite has no option schema"),
        ("urll=file:other.db", "not urll"),
    ],
)
@pytest.mark.parametrize("offline", [[], ["--sql"]], ids=["online", "offline"])
def test_names_that_cannot_be(
    url: str, path: Path, name: str, expected: str, offline: list[str]
) -> None:
    assert expected in refused("-x", name, "upgrade", "head", *offline, url=url)
    assert not path.exists()
