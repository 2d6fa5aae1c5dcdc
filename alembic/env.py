"""Alembic's entry: on a connection that the package hands over, or on the configured URL."""

from __future__ import annotations

import os
from collections.abc import Callable

from sqlalchemy.engine import Connection, Engine

from alembic import context
from workflow_world.factory import DEFAULT_URL, URL_VARIABLES
from workflow_world.settings import env_text
from workflow_world.sql import open_engine
from workflow_world.sql.migrate import VERSION_TABLE
from workflow_world.sql.tables import Tables, tables

config = context.config
PREFIX = str(
    config.attributes.get("table_prefix") or context.get_x_argument(True).get("table_prefix", "")
)

SCHEMA = config.attributes.get("schema") or context.get_x_argument(True).get("schema") or None
TABLES = tables(PREFIX, SCHEMA)
NAMES = {table.name for table in TABLES.metadata.tables.values()}


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
    return kind != "table" or name in NAMES


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
        if lock is not None:
            lock(connection, TABLES)
        run(connection)


if context.is_offline_mode():
    configure(None, "postgresql" if url().startswith("postgres") else "sqlite")
    with context.begin_transaction():
        context.run_migrations()
elif (given := config.attributes.get("connection")) is not None:
    run(given)
else:
    engine = open_engine(url())
    try:
        if engine.dialect.name == "postgresql":
            from workflow_world.sql.postgres import migrations

            # The schema has to be there, and of several that start at once one migrates.
            migrations.retrying(lambda: run_on(engine, migrations.lock))
        else:
            run_on(engine)
    finally:
        engine.dispose()
