"""A session that sends what it can in one pipeline, and remembers whom to tell of its transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from sqlalchemy.engine import Dialect

from ... import faults
from ..compiled import Read, Row, Statement
from ..remote import RemoteSession
from .connections import Connection

_MAX_PAYLOAD: Final = 7_900
ALL: Final = "*"


class PostgresSession(RemoteSession):
    """See ``Session``. Writes travel with the next statement whose answer somebody needs.

    ``topics`` are what other processes are told after the commit.
    """

    __slots__ = ("_connection", "_waiting", "topics")

    def __init__(
        self, connection: Connection, dialect: Dialect, now: Callable[[], datetime]
    ) -> None:
        super().__init__(connection.cursor(binary=True), dialect, now)
        self._connection = connection
        self._waiting: list[tuple[str, Any]] = []
        self.topics: set[str] = set()

    def listed(self, values: Iterable[str]) -> list[str]:
        return [*values]

    def announce(self, topic: str) -> None:
        self.topics.add(topic)

    def flush(self) -> None:
        self._answers([])

    def forget(self, proof: Read | None) -> None:
        """What the last operation has not sent yet is never sent; ``proof`` was there before it."""
        self._waiting.clear()
        self._ahead.clear()
        self.proof = proof

    def run(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> int:
        self._ahead.clear()
        faults.point(statement.before)
        (answer,) = self._answers([self._bound(statement, values or more)])
        faults.point(statement.after)
        return answer.rowcount

    def send(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> None:
        self._ahead.clear()
        faults.point(statement.before)
        self._waiting.append(self._bound(statement, values or more))
        faults.point(statement.after)

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        (answer,) = self._answers([self._bound(statement, values)])
        return list[Row](answer.fetchall())

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        if not reads:
            return []
        answers = self._answers([self._bound(*read) for read in reads])
        return [list[Row](answer.fetchall()) for answer in answers]

    def _answers(
        self, statements: Sequence[tuple[str, Any]]
    ) -> list[psycopg.Cursor[tuple[Any, ...]]]:
        """What waits, then the statements, in one round trip.

        Raises: the server's error with the first of all that failed.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting and len(statements) <= 1:
            return [self._execute_one(*one) for one in statements]
        with self._connection.pipeline():
            for one in waiting:
                self._execute_one(*one)
            return [self._execute_one(*one) for one in statements]

    def _execute_one(self, sql: str, values: Any) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.cursor(binary=True).execute(sql.encode(), values)


def payload_of(origin: str, topics: set[str]) -> str:
    """One notification's text: who sends it, and the topics or ``*`` for all of them."""
    payload = json.dumps([origin, *sorted(topics)], separators=(",", ":"))
    return payload if len(payload) <= _MAX_PAYLOAD else json.dumps([origin, ALL])


def topics_of(payload: str, origin: str) -> list[str]:
    """The topics of somebody else's notification; of our own or a strange one none."""
    try:
        sender, *topics = json.loads(payload)
    except (ValueError, TypeError):
        return []
    return [] if sender == origin else [str(topic) for topic in topics]


def quoted(text: str) -> str:
    """A text as a constant in SQL, whatever the server's settings."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
