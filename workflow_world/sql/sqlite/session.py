"""A session that says which row holds text that SQLite gives back but Python cannot decode."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy.engine import Dialect

from ...errors import BackendError
from ..compiled import Cursor, Row, Session, Statement
from ..damage import corrupt

_MARK: Final = "Could not decode to UTF-8"


class SqliteSession(Session):
    """See ``Session``."""

    __slots__ = ()

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        try:
            return super()._rows(statement, values)
        except sqlite3.OperationalError as error:
            if not str(error).startswith(_MARK):
                raise
        # From nothing: the driver's error quotes the text.
        raise self._undecodable(statement, values)

    def _undecodable(self, statement: Statement, values: Mapping[str, Any]) -> BackendError:
        """Read once more without decoding, and name the first row that cannot be."""
        cursor = cast("sqlite3.Cursor", self._cursor)
        cursor.connection.text_factory = _RawText
        try:
            self._execute(statement, values)
            rows = cursor.fetchall()
        finally:
            cursor.connection.text_factory = str
        names = [column[0] for column in cursor.description]
        for row in rows:
            for index, value in enumerate(row):
                if isinstance(value, _RawText) and not value.is_text:
                    where = _where(statement, names, row, index)
                    return corrupt(where, f"column {names[index]} is not UTF-8")
        return corrupt(f"A row ({statement.before})", "its text is not UTF-8")


class GlancingSession(SqliteSession):
    """On a connection that never writes: whatever is committed is then news to it.

    ``number`` is that of the connection, for each counts on its own.
    """

    __slots__ = ("_number",)

    def __init__(
        self, cursor: Cursor, dialect: Dialect, now: Callable[[], datetime], number: int
    ) -> None:
        super().__init__(cursor, dialect, now)
        self._number = number

    def version(self) -> tuple[int, int]:
        self._cursor.execute("PRAGMA data_version")
        return self._number, self._cursor.fetchall()[0][0]


class _RawText(bytes):
    """Text as it is stored."""

    @property
    def is_text(self) -> bool:
        try:
            self.decode()
        except UnicodeDecodeError:
            return False
        return True


def _where(statement: Statement, names: list[str], row: Row, index: int) -> str:
    columns: list[Any] = list(getattr(statement.element, "selected_columns", ()))
    table = getattr(columns[index], "table", None) if index < len(columns) else None
    if table is None:
        return f"A row ({statement.before})"
    key = ", ".join(
        f"{names[at]} {_shown(row[at])}"
        for at, column in enumerate(columns)
        if getattr(column, "primary_key", False) and column.table is table
    )
    name = getattr(table, "element", table).name  # an alias stands for its table
    return f"The row of {name}" + (f" with {key}" if key else "")


def _shown(value: object) -> str:
    return repr(value.decode(errors="replace") if isinstance(value, bytes) else value)
