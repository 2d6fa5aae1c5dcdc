"""Transactions on a real server, and the round trips that they cost."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import pytest

from workflow_world import hrana

from .conftest import Connect


def rows(connect: Connect, table: str) -> list[tuple[object, ...]]:
    """As somebody else sees them."""
    return connect().execute(f"SELECT id, v FROM {table} ORDER BY id").fetchall()


def test_each_statement_commits_by_itself(connect: Connect, table: str) -> None:
    db = connect()
    assert db.isolation_level is None
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert not db.in_transaction
    assert db.round_trips == 1
    assert rows(connect, table) == [(1, "a")]
    db.commit()
    db.rollback()
    assert db.round_trips == 1


def test_commit_and_rollback(connect: Connect, table: str) -> None:
    db = connect()
    for end in ("ROLLBACK", "COMMIT"):
        db.execute("BEGIN IMMEDIATE")
        assert db.in_transaction
        db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
        assert rows(connect, table) == []
        db.execute(end)
        assert not db.in_transaction
        assert rows(connect, table) == ([(1, "a")] if end == "COMMIT" else [])
    with pytest.raises(hrana.OperationalError, match="within a transaction"):
        db.batch([("BEGIN", ()), ("BEGIN", ())])
    assert not db.in_transaction
    for end in ("COMMIT", "ROLLBACK"):
        with pytest.raises(hrana.OperationalError, match="without a transaction"):
            db.execute(end)


def test_the_context_manager(connect: Connect, table: str) -> None:
    with connect() as db:
        db.execute("BEGIN")
        db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    with pytest.raises(ZeroDivisionError), db:  # noqa: PT012 - what is tested is its end
        db.execute("BEGIN")
        db.execute(f"INSERT INTO {table} VALUES (2, 'b')")
        raise ZeroDivisionError
    assert rows(connect, table) == [(1, "a")]


def test_begin_rides_with_the_first_statement(connect: Connect, table: str) -> None:
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    assert db.round_trips == 0
    db.execute("COMMIT")
    assert db.round_trips == 0
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"SELECT * FROM {table}")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.commit()
    assert db.round_trips == 3


def test_write_behind_costs_two_round_trips(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    cursors = [db.execute(f"INSERT INTO {table} VALUES (?, ?)", (n, n)) for n in range(10)]
    db.cursor().executemany(f"UPDATE {table} SET v = v + 100 WHERE id = ?", [(1,), (2,)])
    assert db.round_trips == 1
    db.commit()
    assert db.round_trips == 2
    assert [cursor.rowcount for cursor in cursors] == [1] * 10
    assert [cursor.lastrowid for cursor in cursors] == list(range(10))
    assert db.round_trips == 2
    assert rows(connect, table)[1] == (1, 101)


@pytest.mark.parametrize("look", ["fetchall", "rowcount", "lastrowid", "description"])
def test_looking_at_a_result_sends_what_waits(connect: Connect, table: str, look: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    cursor = db.execute(f"INSERT INTO {table} VALUES (2, 'b') RETURNING v")
    assert db.round_trips == 0
    found = getattr(cursor, look)
    assert (found() if callable(found) else found) is not None
    assert db.round_trips == 1
    db.rollback()


def test_what_gives_no_result_need_not_be_asked_for_it(connect: Connect, table: str) -> None:
    """SQLAlchemy looks at both of every statement."""
    db = connect(write_behind=True)
    for sql in (
        "BEGIN IMMEDIATE",
        f"CREATE TABLE {table}x (id)",
        f"CREATE INDEX {table}i ON {table}x (id)",
        f"ALTER TABLE {table}x ADD COLUMN other",
        "SAVEPOINT one",
        f"DROP TABLE {table}x",
        "ROLLBACK TO one",
    ):
        cursor = db.execute(sql)
        assert (cursor.description, cursor.rowcount) == (None, -1)
    assert db.round_trips == 0
    db.commit()
    assert db.round_trips == 1
    assert db.execute(f"SELECT * FROM {table}x").fetchall() == []
    db.execute(f"DROP TABLE {table}x")


def test_several_reads_share_a_round_trip(connect: Connect) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN")
    cursors = [db.execute("SELECT ?", (n,)) for n in range(5)]
    assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(5)]
    assert db.round_trips == 1


def test_what_waits_is_never_sent_after_a_rollback(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN")
    cursor = db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.rollback()
    assert db.round_trips == 0
    with pytest.raises(hrana.OperationalError, match="did not run"):
        _ = cursor.rowcount
    assert rows(connect, table) == []


def test_an_error_of_a_statement_that_waited(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    first = db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    second = db.execute(f"INSERT INTO {table} VALUES (1, 'secret')")
    third = db.execute(f"INSERT INTO {table} VALUES (3, 'c')")
    with pytest.raises(hrana.IntegrityError) as caught:
        third.fetchall()
    assert caught.value.__notes__ == [f"raised by: INSERT INTO {table} VALUES (1, 'secret')"]
    assert first.rowcount == 1
    with pytest.raises(hrana.IntegrityError):
        _ = second.rowcount
    with pytest.raises(hrana.OperationalError, match="did not run"):
        _ = third.rowcount
    assert db.in_transaction  # as in SQLite, the statement undid itself alone
    db.execute(f"INSERT INTO {table} VALUES (4, 'd')")
    db.commit()
    assert rows(connect, table) == [(1, "a"), (4, "d")]


def test_nothing_is_committed_when_a_statement_before_it_fails(
    connect: Connect, table: str
) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.execute(f"INSERT INTO {table} VALUES (1, 'b')")
    with pytest.raises(hrana.IntegrityError):
        db.commit()
    assert not db.in_transaction
    assert rows(connect, table) == []
    db.execute(f"INSERT INTO {table} VALUES (2, 'free again')")


def test_a_failure_in_an_early_portion_ends_the_transaction(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    for number in (1, 1, *range(2, 700)):
        db.execute(f"INSERT INTO {table} (id) VALUES (?)", (number,))
    with pytest.raises(hrana.IntegrityError):
        db.commit()
    assert not db.in_transaction
    connect(timeout=4).execute(f"INSERT INTO {table} VALUES (9, 'the lock is free')")
    assert rows(connect, table) == [(9, "the lock is free")]


def test_a_commit_that_fails_rolls_back(connect: Connect, table: str) -> None:
    db = connect()
    db.execute(f"CREATE TABLE {table}c (p REFERENCES {table} (id) DEFERRABLE INITIALLY DEFERRED)")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table}c VALUES (5)")
    with pytest.raises(hrana.IntegrityError):
        db.commit()
    assert not db.in_transaction
    assert db.execute(f"SELECT * FROM {table}c").fetchall() == []


def test_savepoints(connect: Connect, table: str) -> None:
    db = connect()
    with pytest.raises(hrana.NotSupportedError):
        db.execute("SAVEPOINT one")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.execute("SAVEPOINT one")
    db.execute(f"INSERT INTO {table} VALUES (2, 'b')")
    db.execute("ROLLBACK TO one")
    db.execute("RELEASE one")
    assert db.in_transaction
    db.commit()
    assert rows(connect, table) == [(1, "a")]


def test_a_batch_is_one_round_trip(connect: Connect, table: str) -> None:
    db = connect()
    results = db.batch(
        [
            (f"INSERT INTO {table} VALUES (?, ?)", (1, "a")),
            (f"INSERT INTO {table} VALUES (:id, :v)", {"id": 2, "v": "b"}),
            (f"SELECT id FROM {table} ORDER BY id", ()),
        ],
        begin="IMMEDIATE",
    )
    assert db.round_trips == 1
    assert not db.in_transaction
    assert [result.rowcount for result in results] == [1, 1, -1]
    assert (results[1].lastrowid, results[2].rows) == (2, [(1,), (2,)])
    with pytest.raises(hrana.IntegrityError):
        db.batch(
            [
                (f"INSERT INTO {table} VALUES (3, 'c')", ()),
                (f"INSERT INTO {table} VALUES (4, 'c')", ()),
                (f"INSERT INTO {table} VALUES (5, 'd')", ()),
            ],
            begin="IMMEDIATE",
        )
    assert rows(connect, table) == [(1, "a"), (2, "b")]
    with pytest.raises(hrana.ProgrammingError):
        db.batch([("SELEC", ())], begin="DEFERRED")
    assert not db.in_transaction
    assert db.batch([]) == db.batch([], begin="DEFERRED") == []


def test_a_batch_outside_of_a_transaction_stops_at_the_first_failure(
    connect: Connect, table: str
) -> None:
    db = connect()
    with pytest.raises(hrana.IntegrityError):
        db.batch([(f"INSERT INTO {table} VALUES (?, 'same')", (n,)) for n in range(3)])
    assert rows(connect, table) == [(0, "same")]


def test_a_batch_within_a_transaction_belongs_to_it(connect: Connect, table: str) -> None:
    db = connect()
    db.batch([("BEGIN IMMEDIATE", ()), (f"INSERT INTO {table} VALUES (1, 'a')", ())])
    assert db.in_transaction
    with pytest.raises(hrana.ProgrammingError):
        db.batch([], begin="IMMEDIATE")
    db.batch([(f"INSERT INTO {table} VALUES (2, 'b')", ())])
    assert rows(connect, table) == []
    db.batch([("COMMIT", ())])
    assert db.round_trips == 3
    assert len(rows(connect, table)) == 2


def test_isolation_level_begins_by_itself(connect: Connect, table: str) -> None:
    db = connect(isolation_level="IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert db.in_transaction
    assert db.round_trips == 1
    assert rows(connect, table) == []
    db.commit()
    assert rows(connect, table) == [(1, "a")]
    with pytest.raises(hrana.NotSupportedError):
        db.isolation_level = "SOMETIMES"  # type: ignore[assignment]


def test_a_batch_that_is_refused_leaves_nothing_behind(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    with pytest.raises(hrana.OperationalError, match="within a transaction"):
        db.batch([(f"INSERT INTO {table} VALUES (2, 'b')", ()), ("BEGIN", ())])
    db.commit()
    assert rows(connect, table) == [(1, "a")]


def test_savepoints_in_one_round_trip(connect: Connect, table: str) -> None:
    """As the lane replays a batch: an operation's failure is known at the end of its savepoint."""
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    for value in ("a", "a", "b"):
        db.execute("SAVEPOINT one")
        db.execute(f"INSERT INTO {table} (v) VALUES (?)", (value,))
        try:
            db.flush()
        except hrana.IntegrityError:
            assert db.in_transaction
            db.execute("ROLLBACK TO one")
        db.execute("RELEASE one")
    db.commit()
    assert db.round_trips == 4
    assert [row[1] for row in rows(connect, table)] == ["a", "b"]
