"""Sessions that save round trips: writes wait for the next answer that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy.engine import Dialect

from ... import faults, hrana
from ...server_clock import ServerClock
from ..compiled import Proof, Read, Row, Statement
from ..lane import Job
from ..remote import RemoteSession
from .connections import SERVER_TIME
from .errors import is_too_many

_PART: Final = 64
"""Rows that are asked for first, where all of them were too many for one answer."""

_MOST_WAITING: Final = 1 << 20
"""Bytes and characters of writes that wait for the next answer, beyond which they are sent."""


class Another(Exception):
    """An operation reads again, so all that it reads needs a transaction."""


class LibsqlSession(RemoteSession):
    """A transaction; its BEGIN rides with the first statement.

    ``careful`` is for a transaction that is run again because an answer was too large: nothing
    travels together then, and long lists come in parts.
    """

    __slots__ = ("_careful", "_clock", "_connection", "_time", "_waiting")

    def __init__(
        self,
        connection: hrana.Connection,
        dialect: Dialect,
        clock: ServerClock,
        *,
        begin: str | None,
        careful: bool = False,
    ) -> None:
        super().__init__(connection.cursor(), dialect, clock.now)
        self._connection, self._clock, self._careful = connection, clock, careful
        self._time: hrana.Cursor | None = None
        self._waiting = 0
        if begin is not None:
            connection.execute(begin)
            self._time = connection.execute(SERVER_TIME)

    # --- the transaction -----------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether the server has told that the transaction is open."""
        return self._time is None

    @property
    def in_transaction(self) -> bool:
        """False when the server lost it."""
        return self._connection.in_transaction

    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT one")

    def release(self) -> None:
        self._connection.execute("RELEASE one")

    def undo(self, proof: Proof | None) -> None:
        """All since the savepoint, which stays. ``proof`` was the proof then."""
        self._connection.execute("ROLLBACK TO one")
        self.undone(proof)

    def flush(self) -> None:
        """Send what waits. Raises: the error of the first statement that failed."""
        self._connection.flush()
        self._learn()

    def run_job(self, job: Job[Any]) -> None:
        super().run_job(job)
        if self._waiting > _MOST_WAITING:
            self.flush()

    # --- statements ----------------------------------------------------------------------

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        if not reads:
            return []
        for statement, _ in reads:
            faults.point(statement.looking)
        return self._fetch_all([self._bound(*read) for read in reads])

    def read_ahead(self, reads: Sequence[Read]) -> None:
        if not self._careful:
            super().read_ahead(reads)

    def ahead_of(self, jobs: Sequence[Job[Any]], locks: Sequence[Read] = ()) -> Iterator[Job[Any]]:
        return iter(jobs) if self._careful else super().ahead_of(jobs, locks)

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        faults.point(statement.looking)
        sql, parameters = self._bound(statement, values)
        if not self._careful:
            return self._fetch(sql, parameters)
        self.flush()
        try:
            return self._fetch(sql, parameters)
        except hrana.DataError as error:
            if not is_too_many(error):
                raise
            return self._in_parts(sql, parameters)

    def run(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> int:
        self.send(statement, values, **more)
        if statement.writes_one:
            return 1
        count = self._cursor.rowcount
        self._learn()
        return count

    def send(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> None:
        self._ahead.clear()
        self.wrote = True
        faults.point(statement.before)
        sql, parameters = self._bound(statement, values or more)
        self._cursor.execute(sql, parameters)
        self._waiting += _weight(parameters)
        faults.point(statement.after)

    def _fetch(self, sql: str, parameters: Any) -> list[Row]:
        self._cursor.execute(sql, parameters)
        rows = self._cursor.fetchall()
        self._learn()
        return rows

    def _fetch_all(self, statements: list[tuple[str, Any]]) -> list[list[Row]]:
        found = self._connection.batch(statements)
        self._learn()
        return [cast("list[Row]", one.rows) for one in found]

    def _in_parts(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """The same rows: this transaction sees one instant, and a subquery keeps its order."""
        found: list[Row] = []
        size, part = _PART, f"SELECT * FROM ({sql}) LIMIT ? OFFSET ?"  # noqa: S608
        while True:
            try:
                rows = self._fetch(part, [*parameters, size, len(found)])
            except hrana.DataError as error:
                if not is_too_many(error) or size == 1:
                    raise
                size //= 4
                continue
            found.extend(rows)
            if len(rows) < size:
                return found

    def _learn(self) -> None:
        """Something was answered, so nothing waits; the first answer has the server's time."""
        self._waiting = 0
        if self._time is not None:
            ((milliseconds,),) = self._time.fetchall()
            self._time = None
            self._clock.learn(milliseconds)


def _weight(parameters: Mapping[str, Any] | Sequence[Any]) -> int:
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    return sum(len(value) for value in values if isinstance(value, (bytes, str)))


class SingleSession(LibsqlSession):
    """No transaction: all that is read is read at once, and what needs more raises ``Another``."""

    __slots__ = ("_used",)

    def __init__(self, connection: hrana.Connection, dialect: Dialect, clock: ServerClock) -> None:
        super().__init__(connection, dialect, clock, begin=None)
        self._used = False

    def _fetch(self, sql: str, parameters: Any) -> list[Row]:
        self._use()
        return super()._fetch(sql, parameters)

    def _fetch_all(self, statements: list[tuple[str, Any]]) -> list[list[Row]]:
        self._use()
        found = self._connection.batch(statements, begin="DEFERRED")
        return [cast("list[Row]", one.rows) for one in found]

    def _use(self) -> None:
        if self._used:
            raise Another
        self._used = True
