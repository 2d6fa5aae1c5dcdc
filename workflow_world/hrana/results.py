"""What a statement gave, and a statement that is on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .errors import Error
from .statements import Statement
from .values import Json, decode

Column: TypeAlias = tuple[str, str | None, None, None, None, None, None]
"""PEP 249's seven: the name, and the declared type where the column is a table's."""

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """``description`` is None for a statement without columns; ``rowcount`` is -1 where the
    number of affected rows means nothing; ``lastrowid`` is None unless a row was inserted.
    """

    description: tuple[Column, ...] | None
    rows: list[Row]
    rowcount: int
    lastrowid: int | None


@dataclass(slots=True, eq=False)
class Pending:
    """A statement that was queued, and afterwards its result or its error."""

    statement: Statement
    stmt: Json
    result: Result | None = None
    error: Error | None = None

    @property
    def size(self) -> int:
        """Characters of what is bound, as it is sent."""
        found = self.stmt.get("args") or [one["value"] for one in self.stmt.get("named_args", ())]
        return sum(len(one.get("base64") or str(one.get("value", ""))) for one in found)

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


NOTHING: Final = Result(None, [], -1, None)
"""Of a statement that was answered without asking the server."""


def read_result(statement: Statement, raw: Json) -> Result:
    """Hrana's ``StmtResult``. Raises: DataError; KeyError, TypeError, ValueError for garbage."""
    columns = tuple(
        (str(column.get("name") or ""), column.get("decltype"), None, None, None, None, None)
        for column in raw["cols"]
    )
    rows = [tuple([decode(value) for value in row]) for row in raw["rows"]]
    affected = int(raw["affected_row_count"])
    counts = statement.counts
    if counts is None:
        counts = affected > 0 or not columns
    last = raw.get("last_insert_rowid")
    return Result(
        columns or None, rows, affected if counts else -1, None if last is None else int(last)
    )
