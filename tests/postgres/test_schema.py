"""The schema on Postgres: up, down, up again, offline, eight at once, equal to the models."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from servers.postgres import Server

from alembic import command
from workflow_world import create_world
from workflow_world.errors import BackendError, ConfigurationError, SchemaError
from workflow_world.sql import migrate, open_database
from workflow_world.sql.tables import tables

from .conftest import MakeWorld, Spawn
from .helpers import create_run

pytestmark = pytest.mark.anyio

Schema = dict[str, Any]
ReadSchema = Callable[[str, str], Schema]

COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default
    FROM information_schema.columns WHERE table_schema = '{schema}' ORDER BY 1, 2
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = '{schema}'::regnamespace AND contype <> 'n' ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = '{schema}'"


@pytest.fixture
def read_schema(server: Server) -> ReadSchema:
    """``read_schema(database, schema)``: everything that is declared, but Alembic's own."""

    def read(database: str, schema: str = "public") -> Schema:
        found: Schema = {}
        for kind, sql in (("column", COLUMNS), ("constraint", CONSTRAINTS), ("index", INDEXES)):
            for table, name, *rest in server.execute(sql.format(schema=schema), database):
                plain = table.split(".")[-1].strip('"')
                if not plain.endswith(migrate.VERSION_TABLE):
                    found[f"{kind} {plain}.{name}"] = rest
        return found

    return read


@pytest.mark.parametrize(("prefix", "schema"), [("", None), ("app_", None), ("X", "wf")])
def test_models_and_migrations_make_the_same(
    server: Server, empty: str, read_schema: ReadSchema, prefix: str, schema: str | None
) -> None:
    url, where = server.url(empty), schema or "public"
    migrate.upgrade(url, environ={}, table_prefix=prefix, schema=schema)
    made = read_schema(empty, where)
    assert len(made) > 100
    engine = open_database(url, environ={}).engine
    try:
        with engine.begin() as connection:
            options: dict[str, Any] = {
                "version_table": prefix + migrate.VERSION_TABLE,
                "version_table_schema": schema,
                "include_schemas": schema is not None,
                "include_name": lambda name, kind, _: kind != "schema" or name == schema,
            }
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, tables(prefix, schema).metadata) == []
        server.execute(f"DROP SCHEMA {where} CASCADE; CREATE SCHEMA {where}", empty)
        with engine.begin() as connection:
            tables(prefix, schema).metadata.create_all(connection)
    finally:
        engine.dispose()
    assert read_schema(empty, where) == made


def test_texts_are_compared_byte_by_byte(server: Server, name: str) -> None:
    found = server.execute(
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'",
        name,
    )
    assert found == [("C",)]


@pytest.mark.parametrize("schema", [None, "wf"])
def test_up_down_and_up_again(
    server: Server, empty: str, read_schema: ReadSchema, schema: str | None
) -> None:
    url, where = server.url(empty), schema or "public"
    migrate.upgrade(url, environ={}, schema=schema)
    first = read_schema(empty, where)
    engine = open_database(url, environ={}).engine
    try:
        with engine.begin() as connection:
            command.downgrade(migrate.config_for("", connection, schema), "base")
    finally:
        engine.dispose()
    assert read_schema(empty, where) == {}
    assert migrate.current(url, environ={}, schema=schema) is None
    migrate.upgrade(url, environ={}, schema=schema)
    assert read_schema(empty, where) == first
    migrate.check(url, environ={}, schema=schema)


@pytest.mark.parametrize(("prefix", "schema"), [("", None), ("x_", "wf")])
def test_the_printed_sql_makes_the_same(
    server: Server, empty: str, read_schema: ReadSchema, prefix: str, schema: str | None
) -> None:
    url, where = server.url(empty), schema or "public"
    printed = migrate.offline_sql(url, prefix=prefix, schema=schema)
    server.execute(printed, empty)
    migrate.check(url, environ={}, table_prefix=prefix, schema=schema)
    by_hand = read_schema(empty, where)
    server.execute(f"DROP SCHEMA {where} CASCADE", empty)
    server.execute("CREATE SCHEMA IF NOT EXISTS public", empty)
    migrate.upgrade(url, environ={}, table_prefix=prefix, schema=schema)
    assert read_schema(empty, where) == by_hand


def test_printed_sql_needs_no_server() -> None:
    printed = migrate.offline_sql("postgresql://nobody@nowhere.invalid/nothing")
    assert "BYTEA" in printed
    assert re.search(r"advisory|TRIGGER|FUNCTION|PROCEDURE", printed, re.IGNORECASE) is None


async def test_eight_processes_start_on_an_empty_database(
    server: Server, empty: str, spawn: Spawn
) -> None:
    children = [spawn("open", server.url(empty)) for _ in range(8)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"
    for child in children:
        child.go()
    for child in children:
        assert await asyncio.to_thread(child.end) == ["0"]
    migrate.check(server.url(empty), environ={})


async def test_schemas_and_prefixes_are_apart(
    server: Server, name: str, make_world: MakeWorld
) -> None:
    """Four Worlds in one database, with runs of the same id."""
    url = server.url(name)
    places: list[dict[str, str]] = [
        {},
        {"schema": "one"},
        {"schema": "two"},
        {"schema": "two", "table_prefix": "x_"},
    ]
    worlds = [make_world(url, **place) for place in places]
    for number, world in enumerate(worlds):
        await create_run(world, "wrun_1", executionContext={"n": number})
        await world.streams.write("wrun_1", "out", b"x")
        await world.queue("__wkf_workflow_w", {"n": number}, idempotency_key="k")
    for number, world in enumerate(worlds):
        run = await world.runs.get("wrun_1")
        assert run.execution_context == {"n": number}
        assert len((await world.messages.list()).data) == 1


# --- databases that are refused --------------------------------------------------------------


async def test_an_older_schema(server: Server, empty: str, make_world: MakeWorld) -> None:
    world = make_world(server.url(empty), auto_migrate=False)
    with pytest.raises(SchemaError, match="run 'workflow-world db upgrade'"):
        await world.runs.list()
    assert server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", empty) == [
        (0,)
    ]
    migrate.upgrade(server.url(empty), environ={})
    assert not (await world.runs.list()).data


@pytest.mark.parametrize("auto_migrate", [True, False])
async def test_a_newer_schema(
    server: Server, name: str, make_world: MakeWorld, auto_migrate: bool
) -> None:
    server.execute("UPDATE workflow_world_version SET version_num = '9999'", name)
    with pytest.raises(SchemaError, match="upgrade workflow-world"):
        await make_world(auto_migrate=auto_migrate).runs.list()


async def test_tables_of_another_program(server: Server, empty: str, make_world: MakeWorld) -> None:
    server.execute("CREATE TABLE workflow_runs (id TEXT PRIMARY KEY)", empty)
    with pytest.raises(SchemaError, match="workflow-world did not make"):
        await make_world(server.url(empty)).runs.list()
    assert server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", empty) == [
        ("workflow_runs",)
    ]


async def test_a_role_without_rights(
    server: Server, name: str, empty: str, make_world: MakeWorld
) -> None:
    """It may log in, and nothing else; then it may use the tables but not make them."""
    server.execute("DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN")
    with pytest.raises(BackendError, match=r"permission denied.*grant"):
        await make_world(server.url(empty, user="clerk")).runs.list()
    world = make_world(server.url(name, user="clerk"))
    with pytest.raises(BackendError, match=r"permission denied.*grant"):
        await world.runs.list()
    server.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk", name
    )
    await create_run(world, "wrun_1")
    assert len((await world.runs.list()).data) == 1
    server.execute("DROP OWNED BY clerk", name)


@pytest.mark.parametrize("schema", ["", "x y", 'x"y', "X", "pg_x", "x" * 64, "1x", "x;", "\u00fc"])
def test_hostile_schemas(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        create_world("postgresql://localhost/db", schema=schema)
    if schema:
        with pytest.raises(ConfigurationError, match="schema"):
            migrate.offline_sql("postgresql://localhost/db", schema=schema)
