"""The schema on Postgres: many processes may start on an empty database at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from ..migrate import (
    HEAD,
    bring_up_to_date,
    check_version,
    create_version_table,
    version_of,
    version_table,
)
from ..tables import Tables

_RACES: Final = frozenset({"23505", "42P06", "42P07", "40001", "40P01", "XX000"})
"""What creating the same thing twice at once can end in."""
_TRIES: Final = 20
_PAUSE_S: Final = 0.05


def bring_up(engine: Engine, tables: Tables, revision: str, *, migrate: bool) -> None:
    """Look before anything is altered: a database that is refused stays as it is.

    Raises: SchemaError, BackendError, driver errors.
    """
    prefix, schema = tables.prefix, tables.schema
    with engine.connect() as connection:
        if not migrate:
            check_version(connection, prefix, schema)
            return
        if version_of(connection, prefix, schema) == HEAD and revision in ("head", HEAD):
            return
    retrying(
        lambda: bring_up_to_date(
            engine, prefix, revision, schema=schema, lock=lambda one: lock(one, tables)
        )
    )


def retrying(migrate: Callable[[], None]) -> None:
    """Again while another process makes the same thing at the same moment."""
    for attempt in range(_TRIES):
        try:
            migrate()
            return
        except Exception as error:
            original = getattr(error, "orig", error)
            state = original.sqlstate if isinstance(original, psycopg.Error) else None
            if state not in _RACES or attempt == _TRIES - 1:
                raise
        time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311


def lock(connection: Connection, tables: Tables) -> None:
    """Hold the version table until the transaction ends: who comes second waits, then finds the
    work done. No other kind of lock is needed, and the table is Alembic's own."""
    if tables.schema is not None:
        found = connection.execute(
            text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": tables.schema}
        )
        if found.first() is None:
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{tables.schema}"'))
    connection.execute(text(create_version_table(tables.prefix, tables.schema)))
    name = version_table(tables.prefix, tables.schema)
    connection.execute(text(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))
