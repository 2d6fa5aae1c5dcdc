"""The tables under the names that they have in one database: a prefix, a schema, or neither."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, MetaData, Table

from ...errors import ConfigurationError
from .base import NAMING, Base
from .queue import QueueMessage
from .runs import WorkflowEvent, WorkflowHook, WorkflowRun, WorkflowStep
from .streams import StreamChunk

_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables under one name prefix, in one schema (None: where the connection looks)."""

    prefix: str
    schema: str | None
    metadata: MetaData
    runs: Table
    steps: Table
    events: Table
    hooks: Table
    messages: Table
    chunks: Table


def checked_schema(schema: str) -> str:
    """Raises: ConfigurationError for a schema name that would need quoting."""
    if (
        not isinstance(schema, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        or _SCHEMA.fullmatch(schema) is None
        or schema.lower().startswith("pg_")
    ):
        raise ConfigurationError(
            "schema must be up to 63 lower-case letters, digits and underscores, starting with a "
            "letter, and not with pg_"
        )
    return schema


def checked_prefix(prefix: str) -> str:
    """Raises: ConfigurationError for a prefix that would need quoting, or that SQLite reserves."""
    if prefix and (
        not isinstance(prefix, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        or _PREFIX.fullmatch(prefix) is None
        or prefix.lower().startswith("sqlite_")
    ):
        raise ConfigurationError(
            "table_prefix must be up to 31 letters, digits and underscores, starting with a "
            "letter, and not with sqlite_"
        )
    return prefix


@lru_cache(maxsize=32)
def tables(prefix: str = "", schema: str | None = None) -> Tables:
    """The six tables, each name and index name prefixed: two Worlds can share one database."""
    metadata = Base.metadata
    if prefix or schema:
        metadata = MetaData(naming_convention=NAMING, schema=schema)
        for table in Base.metadata.sorted_tables:
            _copy(table, metadata, prefix)
    found = {table.name: table for table in metadata.tables.values()}
    return Tables(
        prefix=prefix,
        schema=schema,
        metadata=metadata,
        runs=found[prefix + WorkflowRun.__tablename__],
        steps=found[prefix + WorkflowStep.__tablename__],
        events=found[prefix + WorkflowEvent.__tablename__],
        hooks=found[prefix + WorkflowHook.__tablename__],
        messages=found[prefix + QueueMessage.__tablename__],
        chunks=found[prefix + StreamChunk.__tablename__],
    )


def _copy(table: Table, metadata: MetaData, prefix: str) -> None:
    """``Table.to_metadata`` would keep index names and foreign keys, which are per database."""
    copy = Table(
        prefix + table.name,
        metadata,
        *(_column(column, prefix, metadata.schema) for column in table.columns),
        *(
            CheckConstraint(constraint.sqltext, name=_short(constraint))
            for constraint in table.constraints
            if isinstance(constraint, CheckConstraint)
        ),
    )
    for index in table.indexes:
        where = index.dialect_options["sqlite"]["where"]
        Index(
            f"{prefix}{index.name}",
            *(copy.columns[column.name] for column in index.columns),
            unique=index.unique,
            sqlite_where=where,
            postgresql_where=where,
        )


def _column(column: Column[Any], prefix: str, schema: str | None) -> Column[Any]:
    keys = [
        ForeignKey(
            f"{schema}.{prefix}{key.target_fullname}"
            if schema
            else f"{prefix}{key.target_fullname}",
            ondelete=key.ondelete,
        )
        for key in column.foreign_keys
    ]
    return Column(
        column.name,
        column.type,
        *keys,
        primary_key=column.primary_key,
        nullable=column.nullable,
        autoincrement=column.autoincrement,
    )


def _short(constraint: CheckConstraint) -> str:
    """The name before the naming convention, which the copy applies anew."""
    name = str(constraint.name)
    return name.removeprefix(f"ck_{constraint.table.name}_")
