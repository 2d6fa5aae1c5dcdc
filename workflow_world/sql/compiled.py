"""Core statements, compiled once per dialect and sent through the driver's cursor.

SQLAlchemy stays the one source of the SQL; what is skipped is ``Connection.execute``, which costs
several times the statement itself on the hot path (measured: 8,000 against 41,000 operations per
second of one SELECT, one INSERT and two UPDATEs, fifty to a transaction on SQLite). Columns hold
what drivers take and give as it is (integers, text, bytes, booleans), so nothing is converted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from sqlalchemy import (
    ColumnElement,
    Insert,
    Table,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from .. import faults

Row = Sequence[Any]


class Cursor(Protocol):
    """The part of a DBAPI cursor that is used."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, statement: Any, parameters: Any = ..., /) -> object: ...
    def executemany(self, statement: Any, parameters: Any, /) -> object: ...
    def fetchall(self) -> list[Any]: ...
    def close(self) -> object: ...


class Statement:
    """A Core statement with ``bindparam``s.

    ``name`` is in its fault points; ``looking`` is that of a statement that reads.
    ``names`` are the parameters in the order in which a tuple of values gives them.
    ``postgresql`` is the statement in that dialect, where it differs.
    ``forms`` is what an engine makes of it and keeps.
    ``row`` are those that are the key of the one row that it writes: several such with different
    keys may be sent as one.
    ``in_order``: it has to find the first rows by an index that has their order, also when the
    planner expects so few that it would rather sort them all.
    ``is_fixed``: it is one of a few, which engines may prepare at once.
    """

    is_fixed = True

    def __init__(
        self,
        name: str,
        element: ClauseElement,
        names: tuple[str, ...] = (),
        *,
        postgresql: ClauseElement | None = None,
        row: tuple[str, ...] = (),
        in_order: bool = False,
    ) -> None:
        self.before, self.after = f"before {name}", f"after {name}"
        self.looking = f"{faults.READ}{name}"
        self.names, self.row, self.in_order = names, row, in_order
        self.row_places = tuple(map(names.index, row))
        self.forms: dict[object, Any] = {}
        self.element, self._postgresql = element, postgresql
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def prepared(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        """SQL text, parameter order (None: by name) and the values bound in the statement."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self.compiled(dialect)
            order = tuple(compiled.positiontup or ()) if compiled.positional else None
            required = {name for name, bind in compiled.binds.items() if bind.required}
            params = compiled.params or {}
            constants = {key: value for key, value in params.items() if key not in required}
            found = (str(compiled), order, constants)
            self._compiled[dialect.name] = found
        return found

    def compiled(self, dialect: Dialect) -> SQLCompiler:
        element = self.element
        if self._postgresql is not None and dialect.name == "postgresql":
            element = self._postgresql
        return cast(
            "SQLCompiler",
            element.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}),
        )

    @cached_property
    def table(self) -> str:
        """Of a statement that writes: where to."""
        return str(cast("Insert", self.element).table)

    @cached_property
    def writes_one(self) -> bool:
        """Whether it inserts one row or raises, so that nobody need ask for the count."""
        return isinstance(self.element, Insert) and self.element.select is None


Read: TypeAlias = tuple[Statement, Mapping[str, Any]]
"""A statement that reads, with its values by name."""


class Session:
    """One open transaction on one driver connection: runs statements, each between fault points.

    Attributes:
        now: the queue's clock (spec 1.1).
        is_remote: each answer costs a round trip, so several reads are better made at once.
    """

    __slots__ = ("_cursor", "_dialect", "now")
    is_remote: ClassVar[bool] = False

    def __init__(self, cursor: Cursor, dialect: Dialect, now: Callable[[], datetime]) -> None:
        self._cursor, self._dialect, self.now = cursor, dialect, now

    def announce(self, topic: str) -> None:
        """Other processes should look again after the commit. For engines that can tell them."""

    def prove(
        self, statement: Statement, values: Mapping[str, Any], *, until: datetime | None = None
    ) -> None:
        """The statement finds a row from now on if this transaction is committed, and only then:
        for good, or at least ``until`` a time of the queue's clock. For engines on which the answer
        to a COMMIT can be lost."""

    def version(self) -> object:
        """What changes with every commit in the database, whoever makes it: read before other
        reads, an equal one later says that they would give the same. None: it cannot be told
        for less than a read costs."""
        return None

    def listed(self, values: Iterable[str]) -> Any:
        """The value of a parameter of ``among``."""
        return json.dumps([*values])

    def read_ahead(self, reads: Sequence[Read]) -> None:
        """These come next, before anything is written. For engines that are remote."""

    def one(self, statement: Statement, **values: Any) -> Row | None:
        """The first row. Reads to the end: a statement half read keeps its transaction open."""
        rows = self._rows(statement, values)
        return rows[0] if rows else None

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        return self._rows(statement, values)

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        faults.point(statement.looking)
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

    def send(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> None:
        """``run``, where nobody asks how many rows were written."""
        self.run(statement, values, **more)

    def put(self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...], /) -> bool:
        """Insert one row. Returns: False when another transaction was first and nothing is
        written, which is rare."""
        return bool(self.run(statement, values))

    def _execute(self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...]) -> None:
        self._cursor.execute(*self._bound(statement, values))

    def _bound(
        self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...]
    ) -> tuple[str, Any]:
        """The SQL text, and its parameters as the driver wants them."""
        sql, order, constants = statement.prepared(self._dialect)
        if isinstance(values, tuple):
            if order is not None and order == statement.names:
                return sql, values
            values = dict(zip(statement.names, values, strict=True))
        if order is None:
            return sql, {**constants, **values} if constants else values
        return sql, [values[name] if name in values else constants.get(name) for name in order]


@dataclass(frozen=True, slots=True)
class Proof:
    """What ``Session.prove`` was told."""

    read: Read
    until: datetime | None


class ProvingSession(Session):
    """For engines on which the answer to a COMMIT can be lost.

    Attributes:
        proof: the first that is for good, else the first.
        wrote: anything was to be written; else nothing is lost with the transaction.
    """

    __slots__ = ("proof", "wrote")

    def __init__(self, cursor: Cursor, dialect: Dialect, now: Callable[[], datetime]) -> None:
        super().__init__(cursor, dialect, now)
        self.proof: Proof | None = None
        self.wrote = False

    def prove(
        self, statement: Statement, values: Mapping[str, Any], *, until: datetime | None = None
    ) -> None:
        if self.proof is None or (until is None and self.proof.until is not None):
            self.proof = Proof((statement, values), until)


def adhoc(name: str, element: ClauseElement) -> Statement:
    """A statement that is built for one use, such as a list with its filters."""
    statement = Statement(name, element)
    statement.is_fixed = False
    return statement


def insert_or_nothing(table: Table) -> ClauseElement:
    """Where several transactions write at once: no row is written when a unique index has its
    values already, which is then no error."""
    return postgresql.insert(table).on_conflict_do_nothing()


def among(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether the column's value is in the list that is the parameter's value: one statement for
    lists of any length. See ``Session.listed``, and ``among_elsewhere`` for Postgres."""
    listed = func.json_each(bindparam(name)).table_valued("value")
    return column.in_(select(listed.c.value))


def among_elsewhere(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    return column == any_(bindparam(name, type_=postgresql.ARRAY(Text)))


def const(value: str) -> ColumnElement[str]:
    """A text constant in the SQL itself: the planner only matches partial indexes on those."""
    return literal_column("'" + value.replace("'", "''") + "'")


def one_of(values: Iterable[str]) -> list[ColumnElement[str]]:
    return [const(value) for value in values]
