"""Options that cannot work, hostile table prefixes, and secrets that stay out of sight (B196)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_mock_engine

from workflow_world import create_world
from workflow_world.errors import ConfigurationError
from workflow_world.registry import redact
from workflow_world.sql import migrate, open_backend

from .conftest import MakeWorld
from .helpers import TABLES, content, create_run, rows

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"synchronous": "off"}, "synchronous"),
        ({"synchronous": "FULL"}, "synchronous"),
        ({"synchronous": 1}, "synchronous"),
        ({"table_prefix": 5}, "table_prefix"),
        ({"auto_migrate": "false"}, "auto_migrate"),
        ({"auto_migrate": 0}, "auto_migrate"),
        ({"engine": "sqlite:///w.db"}, "engine"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_values_that_cannot_work(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        create_world(f"file:{tmp_path / 'w.db'}", **options)
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == {}


def test_an_engine_of_another_driver(tmp_path: Path) -> None:
    other = create_mock_engine("postgresql+psycopg://", lambda *_a, **_k: None)
    with pytest.raises(ConfigurationError, match="sqlite3"):
        create_world(f"file:{tmp_path / 'w.db'}", engine=other)


def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="synchronus"):
        create_world(f"file:{tmp_path / 'w.db'}", synchronus="full")


PREFIXES = [
    'x"; DROP TABLE workflow_runs; --',
    "x'y",
    "x y",
    "x-y",
    "x.y",
    "1x",
    "_x",
    "ü",
    "x\n",
    "x\0",
    "x" * 32,
    "sqlite_",
    "SQLite_",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_hostile_table_prefixes(tmp_path: Path, prefix: str) -> None:
    url = f"file:{tmp_path / 'w.db'}"
    with pytest.raises(ConfigurationError, match="table_prefix"):
        create_world(url, table_prefix=prefix)
    for command in (migrate.upgrade, migrate.current, migrate.check):
        with pytest.raises(ConfigurationError, match="table_prefix"):
            command(url, environ={}, table_prefix=prefix)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("prefix", [PREFIXES[0], "x y", "sqlite_"])
def test_hostile_table_prefixes_in_printed_sql(prefix: str) -> None:
    """What is printed is meant to be run by somebody."""
    with pytest.raises(ConfigurationError, match="table_prefix"):
        migrate.offline_sql("file:w.db", prefix=prefix)


@pytest.mark.parametrize("prefix", ["a", "app_", "X" * 31, "select", "workflow_"])
async def test_good_table_prefixes(make_world: MakeWorld, path: Path, prefix: str) -> None:
    world = make_world(table_prefix=prefix)
    await create_run(world, "wrun_1")
    assert (await world.runs.get("wrun_1")).workflow_name == "greet"
    found = rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {row[0] for row in found} == {
        prefix + name for name in (*TABLES, "workflow_world_version")
    }


async def test_an_empty_prefix_is_none(url: str) -> None:
    one = open_backend(url, environ={}, table_prefix="")
    two = open_backend(url, environ={})
    assert one.database is two.database
    await one.close()
    await two.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:workflow.db", "file:workflow.db"),
        ("file:/data/a@b.db", "file:/data/a@b.db"),
        ("sqlite:////data/w.db", "sqlite:////data/w.db"),
        (":memory:", ":memory:"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://user:s3cret@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql://user:s3@cret@host/db", "postgresql://user:***@host/db"),
        ("libsql://host/?authToken=s3cret", "libsql://host/?…"),
        ("libsql://host?tls=1&authToken=s3cret", "libsql://host?…"),
        ("postgresql:user:s3cret@host/db?x=1", "postgresql:***@host/db"),
        ("libsql:s3cret@host", "libsql:***@host"),
        ("file:a@b.db", "file:a@b.db"),
        ("postgresql://user:s3cret/db", "postgresql://user:***/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("memory://a:b", "memory://a:b"),
    ],
)
def test_redact(url: str, expected: str) -> None:
    assert redact(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://user:s3cret@host/db",
        "nonsense://user:pa/s3cret@host/db",
        "nonsense://user:pa?s3cret@host/db",
        "nonsense://user:pa#s3cret@host/db",
        "nonsense://host/db?authToken=s3cret",
        "nonsense://host/db#authToken=s3cret",
        "file:w.db?authToken=s3cret",
        "//user:s3cret@host/db",
    ],
)
def test_secrets_are_never_shown(url: str) -> None:
    assert "s3cret" not in redact(url)
    with pytest.raises(ConfigurationError) as caught:
        create_world(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__


def test_repr_shows_no_url(tmp_path: Path) -> None:
    world = create_world(f"file:{tmp_path / 's3cret.db'}")
    assert repr(world) == "<World on sqlite>"
