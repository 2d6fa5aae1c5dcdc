"""Our revisions inside an application's own Alembic environment; see ``docs/alembic.md``.

``upgrade`` and ``downgrade`` are called from a revision of the application, one revision of ours
at a time, so that its history says which schema of ours it needs. They run on the application's
connection, in its transaction, and print where it prints (``--sql``). Our version stays in a table
of our own: Worlds look there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from ..errors import ConfigurationError, SchemaError
from .migrate import (
    KNOWN,
    TABLE_NAMES,
    VERSION_TABLE,
    config_for,
    create_version_table,
    version_of,
    version_table,
)
from .tables import checked_prefix, checked_schema

if TYPE_CHECKING:
    from alembic.operations import Operations

IncludeName: TypeAlias = Callable[[str | None, str, Mapping[str, str | None]], bool]


def upgrade(
    op: Operations, revision: str, *, table_prefix: str = "", schema: str | None = None
) -> None:
    """Go up to ``revision`` from the one before it. Nothing happens where the database is there
    already: a World with ``auto_migrate`` may have been first.

    Args:
        op: ``alembic.op``.
        revision: one of ``workflow_world.sql.migrate.KNOWN``.

    Raises: ConfigurationError; SchemaError when the revision before is missing, for tables that
        another program made, and for a newer schema.
    """
    _step(op, "upgrade", revision, table_prefix, schema)


def downgrade(
    op: Operations, revision: str, *, table_prefix: str = "", schema: str | None = None
) -> None:
    """Go down from ``revision`` to the one before it; below the first one nothing is left.

    Raises: as ``upgrade``.
    """
    _step(op, "downgrade", revision, table_prefix, schema)


def include_name(*, table_prefix: str = "", schema: str | None = None) -> IncludeName:
    """What ``context.configure(include_name=…)`` wants: without it, autogenerate drops our tables
    because the application's models do not have them.

    Our tables are also left alone in the schema that the connection uses by default, which Alembic
    calls None.
    """
    ours = {checked_prefix(table_prefix) + name for name in (*TABLE_NAMES, VERSION_TABLE)}
    places = (None, schema and checked_schema(schema))

    def include(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        return kind != "table" or name not in ours or parents.get("schema_name") not in places

    return include


def _step(
    op: Operations,
    direction: Literal["upgrade", "downgrade"],
    revision: str,
    prefix: str,
    schema: str | None,
) -> None:
    if revision not in KNOWN:
        raise ConfigurationError(f"No revision {revision!r}: known are {', '.join(KNOWN)}")
    checked_prefix(prefix)
    context = op.get_context()
    if schema is not None and context.dialect.name != "postgresql":
        raise ConfigurationError(f"schema is for Postgres: {context.dialect.name} has none")
    place = KNOWN.index(revision)
    lower = KNOWN[place - 1] if place else None
    start, end = (lower, revision) if direction == "upgrade" else (revision, lower)
    if not context.as_sql and _is_done(op, prefix, schema, start, end):
        return
    if start is None:
        if schema is not None and _is_missing(op, checked_schema(schema)):
            op.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        op.execute(create_version_table(prefix, schema))
    opts: dict[str, Any] = context.opts
    before = {name: opts.get(name) for name in ("table_prefix", "schema")}
    opts.update(table_prefix=prefix, schema=schema)
    try:
        script = ScriptDirectory.from_config(config_for(prefix, None, schema))
        getattr(script.get_revision(revision).module, direction)()
    finally:
        opts.update(before)
    table = version_table(prefix, schema)
    # Nothing but the names and the revisions that were checked above gets into these.
    if start is not None:
        op.execute(f"DELETE FROM {table} WHERE version_num = '{start}'")  # noqa: S608
    if end is not None:
        op.execute(f"INSERT INTO {table} (version_num) VALUES ('{end}')")  # noqa: S608


def _is_done(
    op: Operations, prefix: str, schema: str | None, start: str | None, end: str | None
) -> bool:
    """Raises: SchemaError when it is neither done nor the next thing to do."""
    order = (None, *KNOWN)
    found = version_of(op.get_bind(), prefix, schema)
    if found == start:
        return False
    up = order.index(start) < order.index(end)
    if (order.index(found) >= order.index(end)) if up else (order.index(found) <= order.index(end)):
        return True
    raise SchemaError(
        f"The database is at schema version {found or 'none'}, not {start or 'none'}: "
        "call the revisions of workflow-world one after the other, and leave none out"
    )


def _is_missing(op: Operations, schema: str) -> bool:
    """Asked first, because creating needs a right even where there is nothing to create."""
    return op.get_context().as_sql or schema not in inspect(op.get_bind()).get_schema_names()
