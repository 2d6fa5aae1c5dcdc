"""Inside an application's own Alembic environment, as ``docs/alembic.md`` says, word by word."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from servers import postgres
from servers.engines import ENGINES
from servers.sqld import Sqld
from sqlalchemy import Engine, create_engine, inspect

from workflow_world import create_world
from workflow_world.errors import ConfigurationError, SchemaError
from workflow_world.hrana.dialect import engine_arguments
from workflow_world.sql import migrate, revisions

from .helpers import ROOT, TABLES, VERSION

Call: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "alembic.md").read_text(), re.DOTALL | re.MULTILINE
)
IMPORTS, CONFIGURE = BLOCKS[0].split("\n\n", 1)
REVISION, ON_LIBSQL = BLOCKS[1:]

ON_OTHERS = """
import os
from sqlalchemy import create_engine

url = os.environ["APPLICATION_URL"]
engine = create_engine(url)
"""
ENV = """
{connect}
from sqlalchemy import Column, MetaData, Table, Text
from alembic import context
{imports}

target_metadata = MetaData()
Table("customers", target_metadata, Column("id", Text, primary_key=True))

if context.is_offline_mode():
    context.configure(url=url, target_metadata=target_metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
{configure}
        with context.begin_transaction():
            context.run_migrations()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

def upgrade():
    op.create_table("customers", sa.Column("id", sa.Text, primary_key=True))

def downgrade():
    op.drop_table("customers")
"""
MAKO = """
from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'w.db'}"
        return
    if request.param == "libsql":
        with Sqld(tmp_path / "server") as sqld:
            yield sqld.url
        return
    with postgres.running() as server:
        name = server.create()
        yield server.url(name)
        server.drop(name)


@pytest.fixture
def call(url: str, tmp_path: Path) -> Call:
    """``call(…)``: the application's ``alembic``, which has to succeed."""
    scripts = tmp_path / "application"
    (scripts / "versions").mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/application\n")
    configure = textwrap.indent(CONFIGURE, " " * 8)
    connect = ON_LIBSQL if url.startswith("libsql") else ON_OTHERS
    env = ENV.format(connect=connect, imports=IMPORTS, configure=configure)
    (scripts / "env.py").write_text(env)
    (scripts / "script.py.mako").write_text(MAKO)
    (scripts / "versions" / "one.py").write_text(FIRST)
    (scripts / "versions" / "two.py").write_text(REVISION)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"APPLICATION_URL": driver_url(url), "WORKFLOW_TURSO_DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    return run


def driver_url(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")


def engine_on(url: str) -> Engine:
    if url.startswith("libsql"):
        found, arguments = engine_arguments(url)
        return create_engine(found, connect_args=arguments)
    return create_engine(driver_url(url))


def names(url: str, schema: str | None = None) -> set[str]:
    engine = engine_on(url)
    try:
        return set(inspect(engine).get_table_names(schema))
    finally:
        engine.dispose()


@pytest.mark.skipif(find_spec("libsql_experimental") is None, reason="has no wheel here")
@pytest.mark.servers
def test_an_engine_on_the_stock_driver(tmp_path: Path) -> None:
    with Sqld(tmp_path / "server") as sqld:
        engine = create_engine(f"sqlite+libsql://{sqld.host}?secure=false")
        for step, there in (
            (revisions.upgrade, {*OURS}),
            (revisions.downgrade, {VERSION}),
            (revisions.upgrade, {*OURS}),
        ):
            with (
                engine.begin() as connection,
                Operations.context(MigrationContext.configure(connection)) as op,
            ):
                step(op, "0001")
            assert names(sqld.url) == there
        engine.dispose()
        migrate.check(sqld.url, environ={})
        look(sqld.url)


def run_on(url: str, use: Callable[[Operations], None]) -> None:
    """In one transaction."""
    engine = engine_on(url)
    try:
        with (
            engine.begin() as connection,
            Operations.context(MigrationContext.configure(connection)) as op,
        ):
            use(op)
    finally:
        engine.dispose()


def look(url: str, **options: object) -> None:
    """A World that may not alter anything works."""

    async def run() -> None:
        world = create_world(url, auto_migrate=False, **options)
        try:
            assert not (await world.runs.list()).data
        finally:
            await world.close()

    asyncio.run(run())


OURS = {*TABLES, VERSION}


def test_up_down_and_up_again(call: Call, url: str) -> None:
    for direction, there in (
        ("upgrade head", {"customers", "alembic_version", *OURS}),
        ("downgrade 0001", {"customers", "alembic_version", VERSION}),
        ("upgrade head", {"customers", "alembic_version", *OURS}),
    ):
        call(*direction.split())
        assert names(url) == there
    migrate.check(url, environ={})
    look(url)


def test_autogenerate_leaves_our_tables_alone(call: Call, url: str, tmp_path: Path) -> None:
    call("upgrade", "head")
    call("check")
    call("revision", "--autogenerate", "-m", "nothing", "--rev-id", "0003")
    (made,) = (tmp_path / "application" / "versions").glob("0003_*.py")
    assert "drop" not in made.read_text()


def test_a_world_may_have_been_first(call: Call, url: str) -> None:
    migrate.upgrade(url, environ={})
    call("upgrade", "head")
    migrate.check(url, environ={})


def test_printed(call: Call, url: str) -> None:
    """What ``--sql`` prints makes the same tables, here and in the package's eyes."""
    printed = call("upgrade", "head", "--sql").stdout
    assert names(url) == set()
    engine = engine_on(url)
    try:
        with engine.begin() as connection:
            for statement in re.split(r";\n", re.sub(r"^--.*$", "", printed, flags=re.MULTILINE)):
                if statement.strip() not in ("", "BEGIN", "COMMIT"):
                    connection.exec_driver_sql(statement)
    finally:
        engine.dispose()
    migrate.check(url, environ={})
    assert "DROP TABLE stream_chunks" in call("downgrade", "0002:0001", "--sql").stdout


def test_a_prefix_and_a_schema(url: str) -> None:
    is_postgres = url.startswith("postgresql")
    about = {"table_prefix": "x_"} | ({"schema": "flows"} if is_postgres else {})
    if not is_postgres:
        with pytest.raises(ConfigurationError, match="schema is for Postgres"):
            run_on(url, lambda op: revisions.upgrade(op, "0001", schema="flows"))
    run_on(url, lambda op: revisions.upgrade(op, "0001", **about))
    assert names(url, about.get("schema")) == {f"x_{name}" for name in OURS}
    migrate.check(url, environ={}, **about)
    look(url, **about)
    run_on(url, lambda op: revisions.downgrade(op, "0001", **about))
    assert names(url, about.get("schema")) == {f"x_{VERSION}"}
    # Twice is once.
    run_on(url, lambda op: revisions.downgrade(op, "0001", **about))


def test_tables_of_another_program_are_left_alone(url: str) -> None:
    engine = engine_on(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE workflow_runs (id TEXT PRIMARY KEY)")
    engine.dispose()
    with pytest.raises(SchemaError, match="did not make"):
        run_on(url, lambda op: revisions.upgrade(op, "0001"))
    assert names(url) == {"workflow_runs"}


@pytest.mark.parametrize(("known", "first"), [(("0001", "0002"), "0002")])
def test_a_revision_left_out(
    url: str, monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...], first: str
) -> None:
    monkeypatch.setattr(revisions, "KNOWN", known)
    with pytest.raises(SchemaError, match="one after the other"):
        run_on(url, lambda op: revisions.upgrade(op, first))


def test_an_unknown_revision(url: str) -> None:
    with pytest.raises(ConfigurationError, match="known are 0001"):
        run_on(url, lambda op: revisions.upgrade(op, "head"))


@pytest.mark.parametrize(
    ("name", "kind", "parents", "expected"),
    [
        ("workflow_runs", "table", {"schema_name": None}, True),
        ("x_workflow_runs", "table", {"schema_name": None}, False),
        ("x_workflow_runs", "table", {"schema_name": "flows"}, False),
        ("x_workflow_runs", "table", {"schema_name": "other"}, True),
        ("x_workflow_world_version", "table", {"schema_name": "flows"}, False),
        ("x_workflow_runs", "column", {"schema_name": "flows"}, True),
        ("flows", "schema", {}, True),
        (None, "schema", {}, True),
    ],
)
def test_which_tables_are_ours(
    name: str | None, kind: str, parents: dict[str, str | None], expected: bool
) -> None:
    include = revisions.include_name(table_prefix="x_", schema="flows")
    assert include(name, kind, parents) is expected
