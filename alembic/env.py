"""Alembic's entry: on a connection that the package hands over, or on the configured URL."""

from __future__ import annotations

import os
from collections.abc import Callable

from alembic.util import CommandError
from sqlalchemy.engine import Connection, Engine

from alembic import context
from workflow_world.errors import WorldError
from workflow_world.factory import DEFAULT_URL, URL_VARIABLES
from workflow_world.settings import env_text
from workflow_world.sql import open_database
from workflow_world.sql.database import Database
from workflow_world.sql.migrate import VERSION_TABLE, version_of
from workflow_world.sql.tables import Tables, tables

config = context.config
GIVEN = {**context.get_x_argument(True), **config.attributes}
if unknown := context.get_x_argument(True).keys() - {"url", "table_prefix", "schema"}:
    raise CommandError(f"-x takes url, table_prefix and schema, not {', '.join(sorted(unknown))}")
OPTIONS = {name: GIVEN[name] for name in ("table_prefix", "schema") if GIVEN.get(name)}
PREFIX, SCHEMA = OPTIONS.get("table_prefix", ""), OPTIONS.get("schema")


def url() -> str:
    return (
        context.get_x_argument(True).get("url")
        or config.get_main_option("sqlalchemy.url")
        or env_text(URL_VARIABLES, os.environ)
        or DEFAULT_URL
    )


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Autogenerate looks at our tables only: the database may hold an application's too."""
    if kind == "schema":
        return name == SCHEMA
    return kind != "table" or name in {table.name for table in TABLES.metadata.tables.values()}


def configure(connection: Connection | None, dialect_name: str | None) -> None:
    context.configure(
        connection=connection,
        dialect_name=dialect_name,
        target_metadata=TABLES.metadata,
        version_table=PREFIX + VERSION_TABLE,
        version_table_schema=SCHEMA,
        include_schemas=SCHEMA is not None,
        render_as_batch=True,
        transactional_ddl=True,
        include_name=include_name,
        literal_binds=connection is None,
        table_prefix=PREFIX,
        schema=SCHEMA,
    )


def run(connection: Connection) -> None:
    configure(connection, None)
    with context.begin_transaction():
        context.run_migrations()


def run_on(engine: Engine, lock: Callable[[Connection, Tables], None] | None = None) -> None:
    with engine.begin() as connection:
        # Tables of another program, or of a newer version of this one, stay as they are.
        version_of(connection, PREFIX, SCHEMA)
        if lock is not None:
            lock(connection, TABLES)
        run(connection)


def run_online(database: Database) -> None:
    database.prepare()
    engine = database.engine
    try:
        with database.translated():
            if engine.dialect.name == "postgresql":
                from workflow_world.sql.postgres import migrations

                # The schema has to be there, and of several that start at once one migrates.
                migrations.retrying(lambda: run_on(engine, migrations.lock))
            elif engine.dialect.driver == "hrana":
                from workflow_world.sql.libsql.migrations import retrying

                # Whoever cannot be reached, or refuses, says so at once.
                with engine.connect().execution_options(ro=True) as reader:
                    version_of(reader, PREFIX, SCHEMA)
                retrying(lambda: run_on(engine))
            else:
                run_on(engine)
    finally:
        engine.dispose()


def print_sql() -> None:
    configure(None, "postgresql" if url().startswith("postgres") else "sqlite")
    with context.begin_transaction():
        if SCHEMA is not None and context.get_starting_revision_argument() in (None, "base"):
            context.execute(f'CREATE SCHEMA IF NOT EXISTS "{SCHEMA}"')
        context.run_migrations()


try:
    if (given := config.attributes.get("connection")) is not None:
        TABLES = tables(PREFIX, SCHEMA)
        run(given)
    else:
        # Refuses what the database has not, such as a schema on SQLite; connects to nothing.
        opened = open_database(url(), environ=os.environ, auto_migrate=True, **OPTIONS)
        TABLES = opened.tables
        if context.is_offline_mode():
            print_sql()
        else:
            run_online(opened)
except (WorldError, TypeError) as error:
    if config.cmd_opts is None:
        raise
    # Typed on a command line: Alembic prints this one in one line, without a traceback.
    raise CommandError(str(error)) from error
