"""A session that sends what it can in one pipeline, and remembers whom to tell afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ... import faults
from ..compiled import Proof, Read, Row, Statement
from ..remote import RemoteSession
from .arrays import Texts
from .connections import Connection, wire_of
from .sets import Reading, Sets, Waiting
from .wire import Answer, Sql

_MAX_PAYLOAD: Final = 7_900
ALL: Final = "*"


_SORTS: Final = ("enable_sort", "enable_bitmapscan")


def _planned(names: Sequence[str], value: str) -> Sql:
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name in names)
    return f"SELECT {settings}".encode(), (), True


IN_ORDER: Final = _planned((*_SORTS, "jit"), "off")
"""Until ``AS_EVER``, as these are the ways to find rows in another order and sort them; ``jit``
until the transaction ends. Up to version 17, where there is no other way, one that is off costs so
much by the planner's count that the server would compile each claim, which takes far longer than to
run it."""

AS_EVER: Final = _planned(_SORTS, "on")


class PostgresSession(RemoteSession):
    """See ``Session``. Writes travel with the next statement whose answer somebody needs.

    ``opening`` are statements that come before all others; ``opened`` is called with the row of
    the last of them. ``careful``: no insert relies on being the first.

    ``topics`` are what other processes are told after the commit.
    """

    __slots__ = ("_careful", "_opened", "_opening", "_sets", "_waiting", "_wire", "topics")

    def __init__(
        self,
        connection: Connection,
        sets: Sets,
        now: Callable[[], datetime],
        *,
        opening: Sequence[bytes] = (),
        opened: Callable[[Row], None] | None = None,
        careful: bool = False,
    ) -> None:
        super().__init__(connection.cursor(), sets.dialect, now)
        self._wire, self._sets, self._careful = wire_of(connection), sets, careful
        self._opening, self._opened = opening, opened
        self._waiting = Waiting(sets)
        self.topics: set[str] = set()

    def listed(self, values: Iterable[str]) -> Texts:
        return Texts(values)

    def announce(self, topic: str) -> None:
        self.topics.add(topic)

    def flush(self) -> None:
        self._answers([])

    def open(self) -> None:
        """Have the answer to the opening."""
        if self._opening:
            self._answers([])

    def undone(self, proof: Proof | None) -> None:
        """What still waits of it, too."""
        self._waiting.drop()
        super().undone(proof)

    def end(self, statements: Sequence[str]) -> str:
        """What waits, and then these; none of them is run when one before it fails.

        Returns: what the server says of the last.
        """
        answers = self._answers([(one.encode(), (), False) for one in statements])
        return answers[-1].status

    def ended(self) -> str:
        """What ``end`` returns, or raises, after it raised StillWaiting."""
        return self._wire.go_on()[-1].status

    # --- statements ----------------------------------------------------------------------

    def run(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> int:
        self._ahead.clear()
        self.wrote = True
        faults.point(statement.before)
        (answer,) = self._answers([self._sets.one(statement, values or more)])
        faults.point(statement.after)
        return answer.count

    def send(
        self,
        statement: Statement,
        values: Mapping[str, Any] | tuple[Any, ...] = (),
        /,
        **more: Any,
    ) -> None:
        self._wait_with(statement, values or more, bold=False)

    def put(self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...], /) -> bool:
        if self._careful:
            return bool(self.run(statement, values))
        # Should another transaction be first, all of this one fails, and is run carefully.
        self._wait_with(statement, values, bold=True)
        return True

    def _wait_with(
        self, statement: Statement, values: Mapping[str, Any] | tuple[Any, ...], *, bold: bool
    ) -> None:
        self._ahead.clear()
        self.wrote = True
        faults.point(statement.before)
        self._waiting.add(statement, values, bold=bold)
        faults.point(statement.after)

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        return self._read_all([(statement, values)])[0]

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        return self._read(reads) if reads else []

    def _read_last(self, reads: Sequence[Read]) -> list[list[Row]]:
        return self._read(reads, (b"COMMIT", (), False))

    def _read(self, reads: Sequence[Read], *last: Sql) -> list[list[Row]]:
        for statement, _ in reads:
            faults.point(statement.looking)
        reading = Reading(self._sets, reads)
        before, after = list[Sql](), list[Sql]()
        if any(statement.in_order for statement, _ in reads):
            before, after = [IN_ORDER], [AS_EVER]
        answers = self._answers([*before, *reading.statements, *after, *last])
        rows = [answer.rows for answer in answers[len(before) :]]
        return reading.sorted_out(rows[: len(reading.statements)])

    def _answers(self, statements: Sequence[Sql]) -> list[Answer]:
        """The opening, what waits, then the statements, in one round trip.

        Raises: the server's error with the first of all that failed.
        """
        before: list[Sql] = [(one, (), True) for one in self._opening]
        opening = len(before)
        if self._waiting:
            before.extend(self._waiting.take())
        answers = self._wire.run([*before, *statements])
        self._opening = ()
        if opening and self._opened is not None:
            self._opened(answers[opening - 1].rows[0])
        return answers[len(before) :]


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
