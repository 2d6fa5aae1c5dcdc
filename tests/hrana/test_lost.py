"""Transactions that the server takes away, and locks that are waited for."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import threading

import pytest

from workflow_world import hrana

from .conftest import Connect
from .test_transactions import rows


def test_a_writer_that_is_robbed_of_its_lock(connect: Connect, table: str) -> None:
    """The server gives the lock to one that waited five seconds. What the loser sends next must
    not be committed by itself, whatever it swallowed."""
    db, thief = connect(), connect()
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'lost')")
    thief.batch([(f"INSERT INTO {table} VALUES (2, 'thief')", ())], begin="IMMEDIATE")
    assert db.in_transaction
    with pytest.raises(hrana.TransactionLostError, match="five seconds") as caught:
        db.batch([(f"INSERT INTO {table} VALUES (3, 'stray')", ()), ("COMMIT", ())])
    assert caught.value.disconnected
    assert not db.in_transaction
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (4, 'next')")
    db.commit()
    assert rows(connect, table) == [(2, "thief"), (4, "next")]


def test_a_lost_transaction_must_be_ended_by_the_caller(connect: Connect, table: str) -> None:
    db = connect()
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (2, 'b')")
    with pytest.raises(hrana.IntegrityError):
        db.execute(f"INSERT OR ROLLBACK INTO {table} VALUES (3, 'a')")
    assert not db.in_transaction
    before = db.round_trips
    for use in (
        lambda: db.execute(f"INSERT INTO {table} VALUES (4, 'stray')"),
        lambda: db.execute("COMMIT"),
        db.commit,
    ):
        with pytest.raises(hrana.TransactionLostError, match="roll back"):
            use()
    assert db.round_trips == before
    db.rollback()
    db.execute(f"INSERT INTO {table} VALUES (5, 'e')")
    assert rows(connect, table) == [(1, "a"), (5, "e")]


def test_a_read_transaction_cannot_become_a_writer_after_a_foreign_commit(
    connect: Connect, table: str
) -> None:
    db = connect()
    db.execute("BEGIN")
    db.execute(f"SELECT * FROM {table}")
    connect().execute(f"INSERT INTO {table} VALUES (1, 'a')")
    with pytest.raises(hrana.OperationalError, match="locked") as caught:
        db.execute(f"INSERT INTO {table} VALUES (2, 'b')")
    assert (caught.value.sqlite_errorname, caught.value.sqlite_errorcode) == ("SQLITE_BUSY", 5)
    assert db.in_transaction
    db.rollback()


def test_waiting_for_the_lock_leaves_other_threads_alone(connect: Connect, table: str) -> None:
    """A waiting writer holds no interpreter lock: this thread, which it waits for, goes on."""
    holder, waiter = connect(), connect()
    holder.execute("BEGIN IMMEDIATE")
    holder.execute(f"INSERT INTO {table} VALUES (1, 'holder')")
    batch = [(f"INSERT INTO {table} VALUES (2, 'waiter')", ())]
    thread = threading.Thread(target=lambda: waiter.batch(batch, begin="IMMEDIATE"))
    thread.start()
    for number in range(3, 50):
        holder.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, number))
    assert thread.is_alive()
    holder.commit()
    thread.join()
    assert len(rows(connect, table)) == 49


def test_an_answer_too_large_of_a_change_that_commits_by_itself(
    connect: Connect, table: str
) -> None:
    """The change was made before the answer grew: it must not look as if it had failed."""
    db = connect()
    with pytest.raises(hrana.UnknownOutcomeError, match="too large"):
        db.execute(
            f"INSERT INTO {table} SELECT value, hex(randomblob(1500000)) "
            "FROM json_each('[1,2,3,4]') RETURNING v"
        )
    assert not db.in_transaction
    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (4,)
