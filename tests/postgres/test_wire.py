"""The wire: several statements in one round trip, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from servers import postgres

from workflow_world.sql.postgres import connections
from workflow_world.sql.postgres import wire as wires
from workflow_world.sql.postgres.connections import (
    Connection,
    give_up_after,
    waiter_of,
    wire_of,
)
from workflow_world.sql.postgres.wire import Sql, StillWaiting, Wire, numbered

PREPARED = "SELECT count(*) FROM pg_prepared_statements"


@pytest.fixture
def connection(server: postgres.Server, name: str) -> Iterator[Connection]:
    with psycopg.connect(server.url(name), autocommit=True) as found:
        give_up_after(found, 60)
        found.prepare_threshold = None
        found.execute("CREATE TABLE t (n bigint PRIMARY KEY, d bytea)")
        yield found


@pytest.fixture
def wire(connection: Connection) -> Wire:
    return wire_of(connection)


def insert(number: int, data: bytes | None = None) -> Sql:
    return b"INSERT INTO t VALUES ($1::bigint, $2::bytea)", (number, data), True


def count(connection: Connection, sql: str = "SELECT count(*) FROM t") -> int:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_each_statement_has_its_answer(wire: Wire) -> None:
    read: Sql = (b"SELECT n, d FROM t ORDER BY n", (), False)
    begin, first, second, found, commit = wire.run(
        [
            (b"BEGIN", (), True),
            insert(1, b"\0\xff"),
            insert(2),
            read,
            (b"COMMIT", (), False),
        ]
    )
    assert [begin.status, first.count, second.count, commit.status] == ["BEGIN", 1, 1, "COMMIT"]
    assert found.rows == [(1, b"\0\xff"), (2, None)]
    assert wire.run([]) == []


def test_the_first_failure_is_told_and_ends_it(wire: Wire, connection: Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        wire.run([insert(1), insert(1), (b"SELECT nothing", (), False), insert(2)])
    assert count(connection) == 0
    assert [one.count for one in wire.run([insert(1), insert(2)])] == [1, 1]


def test_what_was_never_prepared_is_prepared_later(wire: Wire, connection: Connection) -> None:
    other: Sql = (b"DELETE FROM t WHERE n = $1::bigint", (1,), True)
    for _ in range(8):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            wire.run([insert(1), (b"SELECT nothing", (), False), other])
    assert count(connection, PREPARED) == 1
    assert [one.count for one in wire.run([insert(1), other, other])] == [1, 1, 0]
    assert count(connection, PREPARED) == 2


def test_a_value_that_cannot_be_sent_leaves_nothing_under_way(
    wire: Wire, connection: Connection
) -> None:
    for value in ("\0", "\ud800", 2**80):
        with pytest.raises((psycopg.DataError, UnicodeEncodeError, OverflowError)):
            wire.run([insert(1), (b"SELECT $1::text, $2::bigint", (value, value), True)])
    assert not connection.closed
    assert count(connection) == 0


def test_prepared_statements_have_a_bound(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "_MOST_PREPARED", 5)
    read = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    for number in range(23):
        one: Sql = (b"SELECT %d" % number, (), True)
        _, answer, same, _ = wire.run([(read, (), True), one, one, (b"COMMIT", (), False)])
        assert answer.rows == same.rows == [(number,)]
        assert count(connection, PREPARED) <= 5


def test_nothing_is_prepared_where_it_must_not_be(server: postgres.Server, name: str) -> None:
    with psycopg.connect(server.url(name), autocommit=True, prepare_threshold=None) as connection:
        give_up_after(connection, 60)
        for _ in range(8):
            wire_of(connection).run([(b"SELECT 1", (), True)])
        assert count(connection, PREPARED) == 0


def test_both_ways_may_be_full_at_once(wire: Wire) -> None:
    """The server sends what nobody reads yet, while it is still being sent more."""
    blob = bytes(4 << 20)
    answers = wire.run([(b"SELECT $1::bytea", (blob,), False)] * 12)
    assert all(answer.rows == [(blob,)] for answer in answers)


def test_a_connection_that_was_ended_is_closed(
    wire: Wire, connection: Connection, server: postgres.Server, name: str
) -> None:
    with psycopg.connect(server.url(name), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        wire.run([insert(1), insert(2)])
    assert connection.closed


def test_names_become_numbers() -> None:
    assert numbered("a = %(x)s AND b = %(y)s OR c = %(x)s") == (
        b"a = $1 AND b = $2 OR c = $1",
        ("x", "y"),
    )
    assert numbered("a LIKE '%%b' AND c % 2 = 0") == (b"a LIKE '%b' AND c % 2 = 0", ())


# --- near an event loop ------------------------------------------------------------------


def test_an_answer_that_takes_long_is_still_to_come(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "NEAR_S", 0.01)
    slow: Sql = (b"SELECT 7, pg_sleep(0.3)", (), False)
    with waiter_of(connection).near(), pytest.raises(StillWaiting):
        wire.run([insert(1), slow, insert(2)])
    answers = wire.go_on()
    assert [answer.count for answer in answers] == [1, 1, 1]
    assert answers[1].rows[0][0] == 7
    assert count(connection) == 2


def test_an_answer_that_keeps_coming_is_bounded_too(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something always is there to be read."""
    monkeypatch.setattr(connections, "NEAR_S", 0.01)
    large: Sql = (b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)", (), False)
    with waiter_of(connection).near(), pytest.raises(StillWaiting):
        wire.run([large])
    (answer,) = wire.go_on()
    assert len(answer.rows) == 200_000


def test_all_of_a_batch_is_bounded_at_once(
    wire: Wire, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "NEAR_S", 0.2)
    quick: Sql = (b"SELECT pg_sleep(0.05)", (), False)
    done = list[int]()

    def run_many() -> None:
        for number in range(100):
            wire.run([quick])
            done.append(number)

    with waiter_of(connection).near(), pytest.raises(StillWaiting):
        run_many()
    assert len(done) < 10
    wire.go_on()
    assert wire.run([quick])[0].count == 1
