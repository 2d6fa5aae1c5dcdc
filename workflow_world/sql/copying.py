"""Copy all that one database holds into another, empty one: from a file to Postgres, or back."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, func, insert, select, text, true, tuple_
from sqlalchemy.engine import Connection, Engine

from ..clock import SYSTEM_CLOCK
from ..core.paging import fitting
from ..core.values import to_ms
from ..errors import BackendError, ConfigurationError, WorldError
from ..registry import redact
from . import inspect_database, open_database
from .database import Database
from .migrate import check_version, set_version, version_table
from .tables import Tables, tables

_ROWS: Final = 500
_BYTES: Final = 8 << 20
"""Of values that are in memory at once, but for one row that is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database: its URL, and the options of ``open_backend``."""

    url: str
    options: Mapping[str, Any]

    @property
    def tables(self) -> Tables:
        options = self.options
        return tables(options.get("table_prefix") or "", options.get("schema") or None)

    def __str__(self) -> str:
        return redact(self.url)


def copy(source: Place, target: Place, tell: Callable[[str, int], None]) -> None:
    """Copy every row. Nobody may write to the source meanwhile, or work on the target.

    A target whose copy was cut off, or fails, is refused by every World: it has no version.
    ``tell`` is called with each table's name and number of rows, once they are copied.

    Raises: SchemaError when the source's schema is not the newest; ConfigurationError when the
        target has rows already; BackendError when messages of the source are in delivery, when it
        was written to, and for a row that cannot be stored.
    """
    with inspect_database(source.url, environ=os.environ, **source.options) as reading:
        check_version(reading, source.tables.prefix, source.tables.schema)
        _check_idle(reading, source)
        before = _fingerprint(reading, source.tables)
        options: dict[str, Any] = {**target.options, "auto_migrate": True}
        database = open_database(target.url, environ=os.environ, **options)
        try:
            database.open_blocking()
            with database.translated():
                _begin(database.engine, target)
                for old, new in zip(_all(source.tables), _all(target.tables), strict=True):
                    tell(new.name, _copy_table(reading, old, database, new))
                if _fingerprint(reading, source.tables) != before:
                    raise BackendError(
                        f"{source} was written to while it was copied: stop whatever uses it, "
                        f"remove the tables of {target}, and copy again"
                    )
                with database.engine.begin() as writing:
                    writing.execute(text(set_version(_version_table(target))))
        finally:
            database.close()


def _all(tables: Tables) -> Sequence[Table]:
    """Each behind those that it refers to."""
    return (
        *(tables.runs, tables.steps, tables.events, tables.hooks),
        *(tables.messages, tables.chunks),
    )


def _version_table(place: Place) -> str:
    return version_table(place.tables.prefix, place.tables.schema)


def _check_idle(reading: Connection, source: Place) -> None:
    messages = source.tables.messages.c
    live = messages.leased_until > to_ms(SYSTEM_CLOCK.now())
    count = reading.execute(select(func.count()).where(live)).scalar_one()
    if count:
        raise BackendError(
            f"{source} has {count} messages in delivery: stop all workers and applications. The "
            "lease of one that died runs out by itself (lock_duration_ms)"
        )


def _begin(engine: Engine, target: Place) -> None:
    """Take the version away: until all is there nobody shall work with a part of it."""
    with engine.begin() as writing:
        for table in _all(target.tables):
            if writing.execute(select(true()).select_from(table).limit(1)).first() is not None:
                raise ConfigurationError(
                    f"{target} is not empty, {table.name} has rows: nothing was copied. Name an "
                    "empty database, or another schema or table prefix"
                )
        writing.execute(text(f"DELETE FROM {_version_table(target)}"))  # noqa: S608


def _fingerprint(reading: Connection, tables: Tables) -> list[Any]:
    """Changes with whatever is written."""
    found = list[Any]()
    for table in _all(tables):
        changed = table.c.get("updated_at", table.c.created_at)
        found.append(tuple(reading.execute(select(func.count(), func.max(changed))).one()))
    reading.rollback()
    return found


def _copy_table(reading: Connection, old: Table, database: Database, new: Table) -> int:
    count = 0
    for rows in _pages(reading, old):
        try:
            with database.translated(), database.engine.begin() as writing:
                writing.execute(insert(new), rows)
        except WorldError as error:
            keys = {column.name: rows[0][column.name] for column in old.primary_key}
            raise BackendError(
                f"A row of {old.name} cannot be stored, among {len(rows)} from {keys} on: {error}"
            ) from error
        count += len(rows)
    return count


def _pages(reading: Connection, table: Table) -> Generator[list[dict[str, Any]]]:
    """All rows by their keys. Each page is a transaction: servers end those that last."""
    keys = list(table.primary_key)
    last: Sequence[Any] | None = None
    while True:
        behind = true() if last is None else tuple_(*keys) > tuple_(*last)
        chosen = select(*keys, _size(table)).where(behind).order_by(*keys).limit(_ROWS)
        sizes = [row[-1] or 0 for row in reading.execute(chosen)]
        page = select(table).where(behind).order_by(*keys).limit(max(1, fitting(sizes, _BYTES)))
        rows = [dict(row) for row in reading.execute(page).mappings()]
        reading.rollback()
        if not rows:
            return
        if "is_replaying" in table.c:
            # It says which claims may go together, of leases that have run out by now.
            for row in rows:
                row["is_replaying"] = None
        yield rows
        last = [rows[-1][key.name] for key in keys]


def _size(table: Table) -> ColumnElement[int]:
    values = (column for column in table.columns if column.type.python_type in (bytes, str))
    parts = [func.coalesce(func.length(column), 0) for column in values]
    return sum(parts[1:], start=parts[0])
