"""Core statements, compiled once per dialect and sent through the driver's cursor.

SQLAlchemy stays the one source of the SQL; what is skipped is ``Connection.execute``, which costs
several times the statement itself on the hot path (measured: 8,000 against 41,000 operations per
second of one SELECT, one INSERT and two UPDATEs, fifty to a transaction on SQLite). Columns hold
what drivers take and give as it is (integers, text, bytes, booleans), so nothing is converted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from .. import faults

Row = Sequence[Any]


class Cursor(Protocol):
    """The part of a DBAPI cursor that is used."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, statement: str, parameters: Any = ..., /) -> object: ...
    def fetchall(self) -> list[Any]: ...
    def close(self) -> object: ...


class Statement:
    """A Core statement with ``bindparam``s.

    ``name`` is in its fault points. ``names`` are the parameters in the order in which a tuple
    of values gives them.
    """

    def __init__(self, name: str, element: ClauseElement, names: tuple[str, ...] = ()) -> None:
        self.before, self.after = f"before {name}", f"after {name}"
        self.names = names
        self._element = element
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def prepared(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        """SQL text, parameter order (None: by name) and the values bound in the statement."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = cast(
                "SQLCompiler",
                self._element.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}),
            )
            order = tuple(compiled.positiontup or ()) if compiled.positional else None
            params = compiled.params or {}
            constants = {key: value for key, value in params.items() if value is not None}
            found = (str(compiled), order, constants)
            self._compiled[dialect.name] = found
        return found


class Session:
    """One open transaction on one driver connection: runs statements, each between fault points."""

    __slots__ = ("_cursor", "_dialect")

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor, self._dialect = cursor, dialect

    def one(self, statement: Statement, **values: Any) -> Row | None:
        """The first row. Reads to the end: a statement half read keeps its transaction open."""
        self._execute(statement, values)
        rows = self._cursor.fetchall()
        return cast("Row", rows[0]) if rows else None

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        self._execute(statement, values)
        return self._cursor.fetchall()

    def run(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> int:
        """Values by name, or as a tuple in the order of ``statement.names``.

        Returns: the number of rows written.
        """
        faults.point(statement.before)
        self._execute(statement, values or more)
        count = self._cursor.rowcount
        faults.point(statement.after)
        return count

    def _execute(self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...]) -> None:
        sql, order, constants = statement.prepared(self._dialect)
        if isinstance(values, tuple):
            if order is not None and order == statement.names:
                self._cursor.execute(sql, values)
                return
            values = dict(zip(statement.names, values, strict=True))
        if order is None:
            self._cursor.execute(sql, {**constants, **values} if constants else values)
            return
        self._cursor.execute(
            sql, [values[name] if name in values else constants.get(name) for name in order]
        )


def adhoc(name: str, element: ClauseElement) -> Statement:
    """A statement that is built for one use, such as a list with its filters."""
    return Statement(name, element)


def const(value: str) -> ColumnElement[str]:
    """A text constant in the SQL itself: the planner only matches partial indexes on those."""
    return literal_column("'" + value.replace("'", "''") + "'")


def one_of(values: Iterable[str]) -> list[ColumnElement[str]]:
    return [const(value) for value in values]
