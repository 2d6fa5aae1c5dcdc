"""``workflow-world db grants``: a role with these rights does its work, and nothing else.

That all operations work with them is proved by the whole conformance suite, which runs as such a
role: ``tests/conformance/test_postgres.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner
from servers.postgres import Postgres, Server

from workflow_world.check import check
from workflow_world.cli.app import app
from workflow_world.errors import BackendError, ConfigurationError, SchemaError
from workflow_world.sql import migrate

from .conftest import MakeWorld
from .helpers import QUEUE, create_run, event

pytestmark = pytest.mark.anyio

HOSTILE = 'o"; DROP TABLE x; -- \\ \n\u00fc'
"""A role's name, as odd as Postgres takes it."""

MakeRole: TypeAlias = Callable[[str], None]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def make_role(server: Server, empty: str, name: str) -> Iterator[MakeRole]:
    """``make_role(name)``: one that may log in, without rights."""
    if not isinstance(server, Postgres):
        pytest.skip("postgres: how roles may log in is known of a server of our own only")
    made: list[str] = []

    def make(role: str) -> None:
        server.execute(f"CREATE ROLE {quoted(role)} LOGIN")
        made.append(quoted(role))

    yield make
    for role in made:
        for database in (empty, name, "postgres"):
            server.execute(f"DROP OWNED BY {role}", database)
        server.execute(f"DROP ROLE {role}")


def printed(url: str, role: str, *options: str) -> str:
    done = CliRunner().invoke(app, ["db", "grants", "--url", url, "--role", role, *options])
    assert done.exit_code == 0, done.output
    return done.stdout


FORBIDDEN = [
    "CREATE TABLE {s}.extra (id TEXT)",
    "CREATE SCHEMA extra",
    "CREATE INDEX extra ON {s}.workflow_runs (status)",
    "ALTER TABLE {s}.workflow_runs ADD COLUMN extra TEXT",
    "DROP TABLE {s}.stream_chunks",
    "TRUNCATE {s}.queue_messages",
    "DELETE FROM {s}.workflow_runs",
    "DELETE FROM {s}.workflow_events",
    "DELETE FROM {s}.stream_chunks",
    "UPDATE {s}.workflow_events SET event_data = NULL",
    "UPDATE {s}.workflow_events SET position = 7",
    "UPDATE {s}.stream_chunks SET data = ''",
    "UPDATE {s}.workflow_world_version SET version_num = '9'",
    "CREATE TRIGGER t BEFORE INSERT ON {s}.workflow_runs EXECUTE FUNCTION f()",
    "LOCK TABLE {s}.workflow_world_version IN ACCESS EXCLUSIVE MODE",
]


def check_forbidden(url: str, role: str, schema: str) -> None:
    with psycopg.connect(url, user=role, autocommit=True) as connection:
        for sql in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(sql.format(s=schema).encode())


@pytest.mark.parametrize("schema", ["public", "flows"])
async def test_a_role_that_runs(
    server: Server, empty: str, make_role: MakeRole, make_world: MakeWorld, schema: str
) -> None:
    url = server.url(empty)
    make_role("runner_1")
    migrate.upgrade(url, environ={}, schema=schema)
    # It was given too much before: the script says what it has, not what it has besides.
    server.execute(f"GRANT USAGE ON SCHEMA {schema} TO runner_1", empty)
    server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO runner_1", empty)
    for _ in range(2):
        server.execute(printed(url, "runner_1", "--schema", schema), empty)
    world = make_world(server.url(empty, user="runner_1"), schema=schema, auto_migrate=False)
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    await world.queue(QUEUE, {"runId": "wrun_1"})
    await world.streams.write_multi("wrun_1", "out", [b"x", b"y"])
    assert (await check(world)).clean
    # With auto_migrate on there is nothing to do either.
    other = make_world(server.url(empty, user="runner_1"), schema=schema)
    assert len((await other.runs.list()).data) == 1
    check_forbidden(url, "runner_1", schema)


async def test_a_role_that_reads(
    server: Server, name: str, url: str, make_role: MakeRole, make_world: MakeWorld
) -> None:
    await create_run(make_world(), "wrun_1")
    make_role("reader_1")
    server.execute(printed(url, "reader_1", "--rights", "read"), name)
    reading = server.url(name, user="reader_1")
    world = make_world(reading, auto_migrate=False)
    assert (await world.runs.get("wrun_1")).status == "pending"
    assert (await check(world)).clean
    for command in (["status"], ["check"], ["db", "check"], ["db", "current"]):
        done = await asyncio.to_thread(CliRunner().invoke, app, [*command, "--url", reading])
        assert done.exit_code == 0, done.output
    with pytest.raises(BackendError, match=r"permission denied.*workflow-world db grants"):
        await create_run(world, "wrun_2")
    with pytest.raises(BackendError, match="permission denied"):
        await world.queue(QUEUE, {})


@pytest.mark.parametrize("schema", [None, "flows"])
async def test_three_roles(
    server: Server, empty: str, make_role: MakeRole, make_world: MakeWorld, schema: str | None
) -> None:
    """A hardened database: everybody's rights are taken away first."""
    server.execute(f"REVOKE ALL ON DATABASE {empty} FROM PUBLIC")
    server.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", empty)
    options = [] if schema is None else ["--schema", schema]
    about = {} if schema is None else {"schema": schema}
    for role in ("migrator_1", HOSTILE):
        make_role(role)
    url = server.url(empty)
    server.execute(printed(url, "migrator_1", "--rights", "migrate", *options), empty)

    # The one that runs may not begin: there are no tables, and it may not make them.
    as_migrator = server.url(empty, user="migrator_1")
    migrate.upgrade(as_migrator, environ={}, **about)
    owners = server.execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'workflow%'", empty
    )
    assert owners == [("migrator_1",)]

    server.execute(printed(url, HOSTILE, *options), empty)
    world = make_world(server.url(empty, user=quote(HOSTILE)), auto_migrate=False, **about)
    await create_run(world, "wrun_1")
    await world.close()
    check_forbidden(url, HOSTILE, schema or "public")
    migrate.upgrade(as_migrator, environ={}, **about)


async def test_a_role_that_runs_on_an_empty_database(
    server: Server, empty: str, make_role: MakeRole, make_world: MakeWorld
) -> None:
    make_role("runner_2")
    at = server.url(empty, user="runner_2")
    with pytest.raises(SchemaError, match="run 'workflow-world db upgrade'"):
        await make_world(at, auto_migrate=False).runs.list()
    with pytest.raises(BackendError, match=r"permission denied.*workflow-world db grants"):
        await make_world(at).runs.list()


@pytest.mark.parametrize("role", ["", "a\0b", "x" * 64, "\u00fc" * 32])
def test_names_that_no_role_can_have(role: str) -> None:
    with pytest.raises(ConfigurationError, match="role must be a name"):
        migrate.grants_sql("postgresql://localhost/db", role)


@pytest.mark.parametrize("names", [{"schema": 'x"y'}, {"table_prefix": 'x"y'}])
def test_names_that_the_tables_cannot_have(names: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(names))):
        migrate.grants_sql("postgresql://localhost/db", "clerk", **names)


def test_sqlite_has_no_roles() -> None:
    with pytest.raises(ConfigurationError, match="no roles"):
        migrate.grants_sql("file:x.db", "clerk")
