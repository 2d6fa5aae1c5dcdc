"""Several statements in one round trip: what psycopg's own pipeline does with a system call each.

They are gathered in libpq's buffer, leave in one piece, and the server is woken once. It goes by
psycopg's public wrapper of libpq, ``psycopg.pq``, and its adapters.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from ..compiled import Row

Sql: TypeAlias = tuple[bytes, Sequence[Any], bool]
"""Text with ``$1``, its parameters in that order, and whether it is one of a few."""

_MOST_PREPARED: Final = 400
_BINARY: Final = 1
_NAME: Final = re.compile(r"%\(([^)]+)\)s|%%")


class StillWaiting(Exception):
    """The answer takes longer than an event loop may be held up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``count``: of the rows that were written or found; ``status``: the server's word for it."""

    rows: list[Row]
    count: int
    status: str


@dataclass(frozen=True, slots=True)
class _Sent:
    sql: bytes
    values: Sequence[Any]
    types: Sequence[int]
    formats: Sequence[int]
    fixed: bool


class Wire:
    """Of one connection that is in autocommit, and used by one thread at a time.

    It prepares statements that are one of a few, unless the connection's ``prepare_threshold`` is
    None when the wire is made.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._prepares = connection.prepare_threshold is not None
        self._adapt = Transformer.from_context(connection)
        self._prepared: dict[object, bytes] = {}
        self._count = 0

    def run(self, statements: Sequence[Sql]) -> list[Answer]:
        """All of them in order; without a transaction that is open they are one by themselves.

        Raises: the error of the first that failed, none of those behind it was run;
            psycopg.OperationalError when the connection is lost, which is then closed; and
            StillWaiting, after which there is ``go_on``, and else the connection is of no use.
        """
        if not statements:
            return []
        # Before anything is sent: a value that cannot be must not leave half of them under way.
        ready = [self._dumped(*one) for one in statements]
        pgconn = self._connection.pgconn
        with self._giving_up():
            pgconn.enter_pipeline_mode()
            new, places = self._send_all(pgconn, ready)
            pgconn.pipeline_sync()
            self._exchange = _exchanged(pgconn), new, places
        return self.go_on()

    def go_on(self) -> list[Answer]:
        """What ``run`` returns, or raises, after it raised StillWaiting."""
        waiting, new, places = self._exchange
        with self._giving_up():
            results = self._connection.wait(waiting)
            self._connection.pgconn.exit_pipeline_mode()
        for place, key in new.items():
            if results[place].status != pq.ExecStatus.COMMAND_OK:
                del self._prepared[key]
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_from_result(result, self._adapt.encoding)
        return [self._answer(results[place]) for place in places]

    @contextmanager
    def _giving_up(self) -> Generator[None]:
        """The connection, for nobody knows what is still to come."""
        try:
            yield
        except StillWaiting:
            raise
        except BaseException as error:
            self._connection.pgconn.finish()
            if isinstance(error, psycopg.Error) or not isinstance(error, Exception):
                raise
            raise psycopg.OperationalError("the connection was given up") from error

    def _dumped(self, sql: bytes, values: Sequence[Any], fixed: bool) -> _Sent:
        adapt = self._adapt
        dumped = adapt.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return _Sent(sql, dumped, adapt.types or (), adapt.formats or [], fixed)

    def _send_all(
        self, pgconn: pq.abc.PGconn, statements: Sequence[_Sent]
    ) -> tuple[dict[int, object], list[int]]:
        """Returns: by the places of their answers what is being prepared, and the places of the
        statements' own answers."""
        new, places = dict[int, object](), list[int]()
        for one in statements:
            key = one.sql, one.types
            name = self._prepared.get(key)
            if name is None and one.fixed and self._prepares:
                name = self._prepare(pgconn, key)
                if name is not None:
                    new[len(places) + len(new)] = key
            places.append(len(places) + len(new))
            if name is None:
                pgconn.send_query_params(one.sql, one.values, one.types, one.formats, _BINARY)
            else:
                pgconn.send_query_prepared(name, one.values, one.formats, _BINARY)
        return new, places

    def _prepare(self, pgconn: pq.abc.PGconn, key: tuple[bytes, Sequence[int]]) -> bytes | None:
        """Returns: its name, or None when there are too many already. Letting one go would be a
        statement of its own, and nothing may come before the ``BEGIN`` of a transaction."""
        if len(self._prepared) >= _MOST_PREPARED:
            return None
        self._count += 1
        name = self._prepared[key] = b"ww_%d" % self._count
        pgconn.send_prepare(name, *key)
        return name

    def _answer(self, result: pq.abc.PGresult) -> Answer:
        rows = list[Row]()
        if result.ntuples:
            self._adapt.set_pgresult(result)
            rows.extend(self._adapt.load_rows(0, result.ntuples, tuple))
            # It may be large, and would be kept until the next one.
            self._adapt.set_pgresult(None)
        status = (result.command_status or b"").decode()
        return Answer(rows, result.command_tuples or 0, status)


def _exchanged(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
    """Send what is left, and read up to the end of the pipeline: one result per statement.

    Raises: psycopg.OperationalError when the connection is lost.
    """
    while pgconn.flush():
        # The server may have to send before it can read on.
        ready = yield Wait.RW
        if ready and ready & Ready.R:
            pgconn.consume_input()
    found = list[pq.abc.PGresult]()
    ends = 0
    while True:
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            # Each answer has one end.
            ends += 1
            if ends > 1:
                raise psycopg.OperationalError("the connection was lost")
            continue
        ends = 0
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return found
        found.append(result)


def numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """SQL whose parameters have names (``%(name)s``) as the server wants it, and the names in the
    order of its numbers."""
    places = dict[str, int]()

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "%"
        return f"${places.setdefault(name, len(places) + 1)}"

    return _NAME.sub(place, text).encode(), tuple(places)
