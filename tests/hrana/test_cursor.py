"""Cursors and values on a real server."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow_world import hrana

from .conftest import Connect

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=200),
)


@given(st.lists(VALUES, min_size=1, max_size=20))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_value_comes_back_as_it_was(db: hrana.Connection, values: list[object]) -> None:
    marks = ", ".join("?" for _ in values)
    row = db.execute(f"SELECT {marks}", values).fetchone()
    assert row == tuple(values)
    assert [type(value) for value in row or ()] == [type(value) for value in values]


@pytest.mark.parametrize(
    "value",
    [
        2**31,
        2**53 + 1,
        2**63 - 1,
        -(2**63),
        sys.float_info.max,
        5e-324,
        -0.0,
        1.0,
        "",
        "a\0b",
        "\U0010ffff é \u2028 \\ \" '",
        b"",
        bytes(range(256)),
    ],
)
def test_limits_are_stored_exactly(db: hrana.Connection, table: str, value: object) -> None:
    db.execute(f"INSERT INTO {table} (v) VALUES (?)", (value,))
    stored = db.execute(f"SELECT v FROM {table}").fetchone()
    assert stored == (value,)
    assert type(stored[0]) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, stored[0]) == math.copysign(1, value)


def test_an_infinite_result_is_a_data_error(db: hrana.Connection) -> None:
    with pytest.raises(hrana.DataError, match="infinite"):
        db.execute("SELECT 9e999")
    assert db.execute("SELECT 1").fetchall() == [(1,)]


def test_fetching(db: hrana.Connection) -> None:
    numbers = "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4"
    cursor = db.cursor()
    assert cursor.fetchone() is None
    assert cursor.execute(numbers) is cursor
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany() == [(2,)]
    cursor.arraysize = 5
    assert cursor.fetchmany() == [(3,), (4,)]
    assert cursor.fetchmany() == cursor.fetchall() == []
    assert cursor.fetchone() is None
    assert list(cursor.execute(numbers)) == [(1,), (2,), (3,), (4,)]
    cursor.execute(numbers)
    cursor.fetchone()
    assert cursor.fetchall() == [(2,), (3,), (4,)]


def test_description(db: hrana.Connection, table: str) -> None:
    cursor = db.cursor()
    assert cursor.description is None
    cursor.execute(f"SELECT id, v AS other, 1 + 1 FROM {table}")
    assert cursor.description is not None
    assert [column[0] for column in cursor.description] == ["id", "other", "1 + 1"]
    assert all(len(column) == 7 for column in cursor.description)
    assert cursor.description[0][1] == hrana.ROWID
    cursor.execute(f"DELETE FROM {table}")
    assert cursor.description is None


def test_rowcount_and_lastrowid(db: hrana.Connection, table: str) -> None:
    cursor = db.cursor()
    assert (cursor.rowcount, cursor.lastrowid) == (-1, None)
    cursor.execute(f"INSERT INTO {table} (id, v) VALUES (5, 'a'), (9, 'b')")
    assert (cursor.rowcount, cursor.lastrowid) == (2, 9)
    cursor.execute(f"UPDATE {table} SET v = v || '!'")
    assert (cursor.rowcount, cursor.lastrowid) == (2, 9)
    assert cursor.execute(f"SELECT * FROM {table}").rowcount == -1
    assert cursor.execute(f"UPDATE {table} SET v = 1 WHERE id = 0").rowcount == 0
    cursor.execute(f"UPDATE {table} SET v = v || '?' RETURNING v")
    assert (cursor.rowcount, cursor.fetchall()) == (2, [("a!?",), ("b!?",)])
    cursor.execute(
        f"INSERT INTO {table} (id, v) VALUES (5, 'c') ON CONFLICT DO NOTHING RETURNING id"
    )
    assert (cursor.rowcount, cursor.fetchall()) == (0, [])
    cursor.execute(f"WITH x AS (SELECT 77 AS n) INSERT INTO {table} (id) SELECT n FROM x")
    assert (cursor.rowcount, cursor.lastrowid) == (1, 77)
    assert cursor.execute("WITH x AS (SELECT 1) SELECT * FROM x").rowcount == -1
    assert cursor.execute(f"DELETE FROM {table}").rowcount == 3
    assert db.total_changes == 2 + 2 + 2 + 1 + 3


def test_named_parameters(db: hrana.Connection) -> None:
    sql = "SELECT :a, @b, $c, :a || 'x', ':a'"
    row = db.execute(sql, {"a": "1", "b": 2, "c": None, "unused": object()}).fetchone()
    assert row == ("1", 2, None, "1x", ":a")
    assert db.execute("SELECT ?2, ?1", ("a", "b")).fetchone() == ("b", "a")


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_values(db: hrana.Connection, values: tuple[int, ...]) -> None:
    with pytest.raises(hrana.ProgrammingError):
        db.execute("SELECT ?, ?", values)


@pytest.mark.parametrize("bad", [2**63, float("nan"), object(), "\ud800"])
def test_nothing_is_sent_for_a_value_that_is_refused(
    db: hrana.Connection, table: str, bad: object
) -> None:
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} (v) VALUES (1)")
    before = db.round_trips
    for run in (
        lambda: db.execute(f"INSERT INTO {table} (v) VALUES (?)", (bad,)),
        lambda: db.cursor().executemany(f"INSERT INTO {table} (v) VALUES (?)", [(2,), (bad,)]),
        lambda: db.batch([(f"INSERT INTO {table} (v) VALUES (3)", ()), ("SELECT ?", (bad,))]),
    ):
        with pytest.raises((hrana.DataError, hrana.InterfaceError)):
            run()
    assert db.round_trips == before
    db.commit()
    assert db.execute(f"SELECT v FROM {table}").fetchall() == [(1,)]


def test_executemany_is_one_round_trip(db: hrana.Connection, table: str) -> None:
    cursor = db.cursor()
    before = db.round_trips
    cursor.executemany(f"INSERT INTO {table} VALUES (?, ?)", ((n, str(n)) for n in range(500)))
    assert db.round_trips == before + 1
    assert (cursor.rowcount, cursor.fetchall(), cursor.description) == (500, [], None)
    cursor.executemany(
        f"UPDATE {table} SET v = :v WHERE id = :i", [{"i": 1, "v": "x"}, {"i": -1, "v": 0}]
    )
    assert cursor.rowcount == 1
    cursor.executemany(f"DELETE FROM {table} WHERE id = ?", [])
    assert cursor.rowcount == -1
    with pytest.raises(hrana.ProgrammingError):
        cursor.executemany("SELECT ?", [(1,)])


def test_much_goes_out_in_portions(db: hrana.Connection, table: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    before = db.round_trips
    db.cursor().executemany(
        f"INSERT INTO {table} VALUES (?, ?)", [(n, bytes([n]) * 700_000) for n in range(8)]
    )
    assert db.round_trips == before + 2
    cursor = db.cursor()
    cursor.executemany(f"INSERT INTO {table} (v) VALUES (?)", [(n,) for n in range(1200)])
    assert db.round_trips == before + 5
    assert cursor.rowcount == 1200
    db.commit()
    assert db.execute(f"SELECT count(*), sum(length(v)) >= 5600000 FROM {table}").fetchone() == (
        1208,
        1,
    )


def test_statements_that_fail(db: hrana.Connection, table: str) -> None:
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    for sql, kind in [
        (f"INSERT INTO {table} VALUES (1, 'b')", hrana.IntegrityError),
        (f"INSERT INTO {table} VALUES ('text', 'b')", hrana.IntegrityError),
        ("SELEC", hrana.ProgrammingError),
        ("SELECT nothing", hrana.ProgrammingError),
        ("SELECT * FROM nothing", hrana.ProgrammingError),
        ("SELECT 1; SELECT 2", hrana.ProgrammingError),
        ("VACUUM", hrana.NotSupportedError),
        ("ATTACH 'x' AS y", hrana.NotSupportedError),
        (f"UPDATE {table} SET v = zeroblob(5000001)", hrana.DataError),
    ]:
        with pytest.raises(kind):
            db.execute(sql)
    assert db.execute(f"SELECT * FROM {table}").fetchall() == [(1, "a")]


def test_a_value_over_the_servers_limit(db: hrana.Connection, table: str) -> None:
    with pytest.raises(hrana.DataError, match="5 MB") as caught:
        db.execute(f"INSERT INTO {table} (v) VALUES (?)", (bytes(5_000_001),))
    assert caught.value.sqlite_errorname == "SQLITE_TOOBIG"


def test_an_answer_over_the_servers_limit(db: hrana.Connection, table: str) -> None:
    db.execute("BEGIN IMMEDIATE")
    for number in range(3):
        db.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, bytes([number]) * 4_900_000))
    with pytest.raises(hrana.DataError, match="fewer rows") as caught:
        db.execute(f"SELECT v FROM {table}")
    assert caught.value.code == "RESPONSE_TOO_LARGE"
    assert db.in_transaction
    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (3,)
    db.rollback()
    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_what_is_closed_says_so(connect: Connect) -> None:
    db = connect()
    cursor = db.execute("SELECT 1")
    cursor.setinputsizes([None])
    cursor.setoutputsize(10)
    assert cursor.connection is db
    cursor.close()
    cursor.close()
    with pytest.raises(hrana.ProgrammingError, match="closed cursor"):
        cursor.fetchone()
    with pytest.raises(hrana.ProgrammingError, match="closed cursor"):
        cursor.execute("SELECT 1")
    other = db.cursor()
    db.close()
    db.close()
    for use in (db.cursor, db.commit, db.rollback, db.flush, lambda: other.execute("SELECT 1")):
        with pytest.raises(hrana.ProgrammingError, match="closed connection"):
            use()
    assert "closed" in repr(db)
    assert not db.in_transaction
