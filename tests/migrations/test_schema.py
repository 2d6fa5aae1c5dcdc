"""The migrations together make what the models say, with and without a table prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from workflow_world.sql import migrate, open_database
from workflow_world.sql.tables import tables

from .helpers import TABLES, VERSION, ask, dump, revisions, schema, table_names

PREFIXES = ["", "app_", "X"]


def by_models(path: Path, prefix: str) -> dict[str, Any]:
    engine = create_engine(f"sqlite:///{path}")
    try:
        tables(prefix).metadata.create_all(engine)
    finally:
        engine.dispose()
    return schema(path)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_models_and_migrations_make_the_same_schema(
    url: str, path: Path, tmp_path: Path, prefix: str
) -> None:
    """Tables, columns, keys, named CHECKs, and indexes with their WHERE, text for text."""
    migrate.upgrade(url, environ={}, table_prefix=prefix)
    made, declared = schema(path), by_models(tmp_path / "models.db", prefix)
    assert made.keys() == declared.keys()
    for name, parts in declared.items():
        assert made[name] == parts, name
    partial = [sql for sql in made.values() if isinstance(sql, str) and " WHERE " in sql]
    assert len(partial) >= 14
    checks = [
        line
        for parts in made.values()
        if isinstance(parts, dict)
        for line in parts["constraints"]
        if " CHECK " in line
    ]
    assert len(checks) >= 15


@pytest.mark.parametrize("prefix", PREFIXES)
def test_autogenerate_finds_nothing_to_do(url: str, prefix: str) -> None:
    migrate.upgrade(url, environ={}, table_prefix=prefix)
    engine = open_database(url, environ={}).engine
    try:
        with engine.connect() as connection:
            options = {"version_table": prefix + VERSION, "compare_server_default": True}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, tables(prefix).metadata) == []
    finally:
        engine.dispose()


@pytest.mark.parametrize("prefix", ["app_", "X"])
def test_a_prefix_changes_names_and_nothing_else(
    url: str, path: Path, tmp_path: Path, prefix: str
) -> None:
    other = tmp_path / "plain.db"
    migrate.upgrade(url, environ={}, table_prefix=prefix)
    migrate.upgrade(f"file:{other}", environ={})
    plain, prefixed = schema(other), schema(path)
    assert {f"{prefix}{name}" for name in plain} == prefixed.keys()
    for name, parts in plain.items():
        twin = prefixed[prefix + name]
        if isinstance(parts, dict):
            assert twin["columns"] == parts["columns"]
            assert len(twin["constraints"]) == len(parts["constraints"])
        else:
            for table in TABLES:
                parts = parts.replace(f" {table} ", f" {prefix}{table} ")
            assert twin == parts.replace(f" {name} ", f" {prefix}{name} ")


def test_the_newest_and_the_known_revisions_are_those_of_the_scripts() -> None:
    assert list(migrate.KNOWN) == revisions()
    assert revisions()[-1] == migrate.HEAD


def test_prefixed_and_plain_tables_live_in_one_file(url: str, path: Path) -> None:
    everything: set[str] = set()
    for prefix in ("", "a_", "b_"):
        migrate.upgrade(url, environ={}, table_prefix=prefix)
        everything |= {prefix + name for name in (*TABLES, VERSION)}
        assert table_names(path) == everything
    # A second time changes nothing, and each knows its own version.
    before = dump(path)
    for prefix in ("", "a_", "b_"):
        migrate.upgrade(url, environ={}, table_prefix=prefix)
        assert migrate.current(url, environ={}, table_prefix=prefix) == migrate.HEAD
    assert dump(path) == before
    assert ask(path, "PRAGMA foreign_key_check") == []
