"""After a fork the child works on sockets of its own, and leaves the parent's transaction alone."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable

import pytest

from workflow_world import hrana

from .conftest import Connect
from .proxy import Proxy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def in_child(work: Callable[[], None]) -> None:
    """Run it in a forked process; fails if it raises there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_idle_connection_works_on_both_sides(connect: Connect, table: str) -> None:
    db = connect()
    db.execute(f"INSERT INTO {table} VALUES (1, 'before')")

    def work() -> None:
        for number in range(10, 20):
            db.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, number))
        db.close()

    in_child(work)
    for number in range(20, 30):
        db.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, number))
    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (21,)


def test_a_transaction_stays_the_parents(connect: Connect, table: str) -> None:
    db = connect(write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    assert db.execute(f"INSERT INTO {table} VALUES (1, 'parent')").rowcount == 1
    db.execute(f"INSERT INTO {table} VALUES (2, 'waits')")

    def work() -> None:
        assert not db.in_transaction
        for use in (db.commit, lambda: db.execute("SELECT 1")):
            with pytest.raises(hrana.TransactionLostError):
                use()
        db.rollback()
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        db.close()

    in_child(work)
    in_child(db.close)
    assert db.in_transaction
    db.commit()
    assert db.execute(f"SELECT id FROM {table} ORDER BY id").fetchall() == [(1,), (2,)]


def test_the_child_uses_a_socket_of_its_own(connect: Connect, proxy: Proxy) -> None:
    db = connect(proxy.url)
    db.execute("SELECT 'parent'")

    def work() -> None:
        db.execute("SELECT 'child'")
        db.close()

    in_child(work)
    db.execute("SELECT 'parent'")
    parent, child, again = proxy.clients
    assert parent == again != child
