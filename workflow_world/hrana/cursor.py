"""A cursor of PEP 249. It holds the whole result of its last statement, which may be on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from .errors import ProgrammingError
from .results import Column, Pending, Result, Row
from .statements import Parameters

if TYPE_CHECKING:
    from .connection import Connection

_WITHOUT_RESULT: Final = ("begin", "savepoint", "schema")


class Cursor:
    """Made by ``Connection.cursor``. ``arraysize`` is what ``fetchmany`` takes by default."""

    def __init__(self, connection: Connection) -> None:
        self.arraysize = 1
        self._connection = connection
        self._pending: list[Pending] = []
        self._is_many = self._closed = False
        self._next = 0
        self._lastrowid: int | None = None

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def description(self) -> tuple[Column, ...] | None:
        """Name and declared type of each column; None for a statement without any."""
        if self._gives_nothing:
            return None
        result = self._result()
        return None if result is None else result.description

    @property
    def rowcount(self) -> int:
        """Rows that INSERT, UPDATE, DELETE or REPLACE wrote, with RETURNING too; else -1."""
        if not self._pending or self._gives_nothing:
            return -1
        counts = [self._connection.result_of(pending).rowcount for pending in self._pending]
        return -1 if -1 in counts else sum(counts)

    @property
    def lastrowid(self) -> int | None:
        """The rowid of the row last inserted through this cursor by ``execute``."""
        result = self._result()
        if result is not None and result.lastrowid is not None:
            self._lastrowid = result.lastrowid
        return self._lastrowid

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """Parameters as a sequence for ``?``, or a mapping for ``:name``.

        Raises: DataError, InterfaceError and ProgrammingError before anything is sent; else see
        the errors' own descriptions.
        """
        self._begin()
        self._pending = [self._connection.submit(sql, parameters)]
        return self

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> Cursor:
        """Once for each row of parameters, in as few requests as possible; gives no rows.

        Outside of a transaction each row commits by itself, up to the one that fails.
        """
        self._begin()
        self._is_many = True
        self._pending = self._connection.submit_many(sql, rows)
        return self

    def fetchone(self) -> Row | None:
        rows = self._rows()
        if self._next >= len(rows):
            return None
        self._next += 1
        return rows[self._next - 1]

    def fetchmany(self, size: int | None = None) -> list[Row]:
        first = self._next
        found = self._rows()[first : first + (self.arraysize if size is None else size)]
        self._next += len(found)
        return found

    def fetchall(self) -> list[Row]:
        found = self._rows()
        if self._next:
            found = found[self._next :]
        self._next += len(found)
        return list(found)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def close(self) -> None:
        """Idempotent. A statement of a transaction that waits is still sent."""
        self._closed = True
        self._pending = []

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing to set."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing to set."""

    @property
    def _gives_nothing(self) -> bool:
        """SQLAlchemy looks at the results of all statements; those of some are known beforehand."""
        return bool(self._pending) and self._pending[0].statement.kind in _WITHOUT_RESULT

    def _begin(self) -> None:
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed cursor")
        self._pending, self._is_many, self._next = [], False, 0

    def _result(self) -> Result | None:
        if self._is_many or not self._pending:
            return None
        return self._connection.result_of(self._pending[0])

    def _rows(self) -> list[Row]:
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed cursor")
        result = self._result()
        return [] if result is None else result.rows
