"""Several statements of one kind as one statement over a set of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import Insert, Update
from sqlalchemy.engine import Dialect

from ..compiled import Read, Row, Statement
from .arrays import array_of
from .wire import Sql, numbered

Values: TypeAlias = Mapping[str, Any] | tuple[Any, ...]
"""Of one statement, by name or in the order of its ``names``."""

_IF_NONE: Final = " ON CONFLICT DO NOTHING"
_LIMIT: Final = "row_limit"
_ORDERED: Final = "ORDER BY"
MOST_BYTES: Final = 1 << 20
"""Beyond that a write travels by itself: what it costs is its size, and not its statement."""


@dataclass(frozen=True, slots=True)
class _OfMany:
    sql: bytes
    order: tuple[str, ...]
    names: tuple[str, ...]
    arrays: tuple[type[tuple[Any, ...]], ...]
    constants: Mapping[str, Any]

    def with_columns(self, columns: Sequence[Sequence[Any]]) -> Sql:
        values: dict[str, Any] = dict(self.constants)
        for name, array, column in zip(self.names, self.arrays, columns, strict=True):
            values[name] = array(column)
        return self.sql, [values[name] for name in self.order], True


class Sets:
    """Makes the forms of statements for many rows, and the plain ones; the statements keep them.
    Thread-safe."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    # --- one -----------------------------------------------------------------------------

    def one(
        self,
        statement: Statement,
        values: Values,
        *,
        bold: bool = False,
    ) -> Sql:
        """``bold``: of an insert that writes nothing when another transaction was first, the form
        that fails then."""
        form = ("one", bold)
        if form not in statement.forms:
            text, _, constants = statement.prepared(self.dialect)
            text = text.removesuffix(_IF_NONE) if bold else text
            statement.forms[form] = *numbered(text), constants
        sql, order, constants = statement.forms[form]
        if isinstance(values, tuple):
            if order == statement.names:
                return sql, values, statement.is_fixed
            values = dict(zip(statement.names, values, strict=True))
        found = [values[name] if name in values else constants[name] for name in order]
        return sql, found, statement.is_fixed

    # --- many ----------------------------------------------------------------------------

    def writes(self, statement: Statement, rows: Sequence[Values], *, bold: bool) -> list[Sql]:
        """The same effect as the statement with each row's values, none of which is about a row
        of another one's. Several are tuples."""
        if len(rows) > 1 and (many := self._of_many(statement, bold)) is not None:
            return [many.with_columns([*zip(*rows, strict=True)])]
        return [self.one(statement, values, bold=bold) for values in rows]

    def reads(self, statement: Statement, reads: Sequence[Mapping[str, Any]]) -> Sql | None:
        """All of them at once: in front of each row is its read's number, from 1 up. None: that
        cannot be."""
        many = self._of_many(statement, bold=False)
        if many is None:
            return None
        return many.with_columns([[read[name] for read in reads] for name in many.names])

    def _of_many(self, statement: Statement, bold: bool) -> _OfMany | None:
        form = ("many", bold)
        if form not in statement.forms:
            statement.forms[form] = self._made(statement, bold)
        return cast("_OfMany | None", statement.forms[form])

    def _made(self, statement: Statement, bold: bool) -> _OfMany | None:
        sql, _, constants = statement.prepared(self.dialect)
        compiled = statement.compiled(self.dialect)
        names = statement.names or tuple(
            name for name, bind in compiled.binds.items() if bind.required
        )
        types = [array_of(compiled.binds[name].type) for name in names]
        known = [found for found in types if found is not None]
        if not names or len(known) < len(names) or _LIMIT in names:
            return None
        # The parameters become columns of ``k``, a row for each of the statements.
        columns = {name: f'k."{name}"' for name in names} | {
            name: f"%({name})s" for name in constants
        }
        text = (sql.removesuffix(_IF_NONE) if bold else sql) % columns
        arrays = ", ".join(
            f"%({name})s::{kind}" for name, (_, kind) in zip(names, known, strict=True)
        )
        rows = f"FROM unnest({arrays})"
        listed = ", ".join(f'"{name}"' for name in names)
        element = statement.element
        if isinstance(element, Insert):
            head, rest = text.split(" VALUES (", 1)
            values, tail = rest.rsplit(")", 1)
            text = f"{head} SELECT {values} {rows} AS k({listed}){tail}"
        elif isinstance(element, Update):
            changes, where = text.split(" WHERE ", 1)
            text = f"{changes} {rows} AS k({listed}) WHERE {where}"
        elif _ORDERED in sql:
            return None  # the rows of several would be in no order
        else:
            text = (
                f"SELECT k.number, x.* {rows} WITH ORDINALITY"
                f" AS k({listed}, number) CROSS JOIN LATERAL ({text}) AS x"
            )
        return _OfMany(*numbered(text), names, tuple(array for array, _ in known), constants)


class Waiting:
    """Writes that nobody waits for, in such an order that those of one kind are one statement.

    A write moves to the front of another one only if both are of statements with a ``row``, and
    about different rows.
    """

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._groups: list[tuple[Statement, bool, list[Values]]] = []
        self._forget()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, statement: Statement, values: Values, *, bold: bool) -> None:
        if not statement.row:
            self._forget()
            self._groups.append((statement, bold, [values]))
            return
        row = (
            values if isinstance(values, tuple) else tuple(values[name] for name in statement.names)
        )
        key = statement.table, *(row[place] for place in statement.row_places)
        weight = sum(len(value) for value in row if isinstance(value, (bytes, str)))
        if key in self._rows or self._weight + weight > MOST_BYTES:
            self._forget()
        self._rows.add(key)
        self._weight += weight
        group = self._open.get(statement)
        if group is None:
            if statement.row == ("run_id",) and isinstance(statement.element, Insert):
                self._forget()  # what is about the new run must not move in front of it
                self._rows.add(key)
            group = self._open[statement] = []
            self._groups.append((statement, bold, group))
        group.append(row)

    def take(self) -> list[Sql]:
        """What they have become, in order; nothing waits any more."""
        found = list[Sql]()
        for statement, bold, rows in self._groups:
            found.extend(self._sets.writes(statement, rows, bold=bold))
        self.drop()
        return found

    def drop(self) -> None:
        """Nothing waits any more."""
        self._groups = []
        self._forget()

    def _forget(self) -> None:
        """What comes next stays behind all that was before."""
        self._open: dict[Statement, list[Values]] = {}
        self._rows: set[object] = set()
        self._weight = 0


class Reading:
    """Reads that are made at once, those of one kind by one statement, equal ones once."""

    def __init__(self, sets: Sets, reads: Sequence[Read]) -> None:
        self._sets, self._count = sets, len(reads)
        self._groups: dict[Statement, tuple[list[Mapping[str, Any]], list[list[int]]]] = {}
        for place, (statement, values) in enumerate(reads):
            different, places = self._groups.setdefault(statement, ([], []))
            if values in different[-1:]:
                places[-1].append(place)
            else:
                different.append(values)
                places.append([place])
        self.statements: list[Sql] = []
        self._wanted: list[tuple[list[list[int]], bool]] = []
        for statement, (different, places) in self._groups.items():
            many = sets.reads(statement, different) if len(different) > 1 else None
            if many is not None:
                self.statements.append(many)
                self._wanted.append((places, True))
                continue
            for values, at in zip(different, places, strict=True):
                self.statements.append(sets.one(statement, values))
                self._wanted.append(([at], False))

    def sorted_out(self, answers: Sequence[list[Row]]) -> list[list[Row]]:
        """The rows of each read, of the rows that the statements found."""
        found: list[list[Row]] = [[] for _ in range(self._count)]
        for rows, (places, merged) in zip(answers, self._wanted, strict=True):
            for row in rows:
                number: int = row[0] if merged else 1
                for place in places[number - 1]:
                    found[place].append(row[1:] if merged else row)
        return found
