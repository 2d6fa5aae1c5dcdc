"""The module as PEP 249 describes it; no server is needed."""

from __future__ import annotations

import pickle

import pytest

from workflow_world import hrana
from workflow_world.hrana import errors

STANDARD = [
    "Warning",
    "Error",
    "InterfaceError",
    "DatabaseError",
    "DataError",
    "OperationalError",
    "IntegrityError",
    "InternalError",
    "ProgrammingError",
    "NotSupportedError",
]


def test_the_globals_are_there() -> None:
    assert (hrana.apilevel, hrana.threadsafety, hrana.paramstyle) == ("2.0", 1, "qmark")
    assert sorted(hrana.__all__, key=str) == sorted(set(hrana.__all__), key=str)
    assert all(hasattr(hrana, name) for name in hrana.__all__)


def test_the_exceptions_form_the_tree() -> None:
    assert issubclass(hrana.Error, Exception)
    assert not issubclass(hrana.Warning, hrana.Error)
    assert issubclass(hrana.InterfaceError, hrana.Error)
    assert not issubclass(hrana.InterfaceError, hrana.DatabaseError)
    for name in STANDARD[4:]:
        assert issubclass(getattr(hrana, name), hrana.DatabaseError)
    assert issubclass(hrana.TransactionLostError, hrana.OperationalError)
    assert issubclass(hrana.UnknownOutcomeError, hrana.OperationalError)


@pytest.mark.parametrize("name", STANDARD)
def test_a_connection_carries_the_exceptions(name: str) -> None:
    assert getattr(hrana.Connection, name) is getattr(hrana, name)


def test_errors_survive_a_pickle() -> None:
    error = hrana.IntegrityError("no", code="SQLITE_CONSTRAINT", http_status=200)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(copy), copy.code, copy.http_status) == ("no", "SQLITE_CONSTRAINT", 200)


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        ("SQLITE_CONSTRAINT", hrana.IntegrityError, 19),
        ("SQLITE_BUSY", hrana.OperationalError, 5),
        ("SQLITE_FULL", hrana.OperationalError, 13),
        ("SQLITE_TOOBIG", hrana.DataError, 18),
        ("SQLITE_CORRUPT", hrana.DatabaseError, 11),
        ("SQLITE_INTERNAL", hrana.InternalError, 2),
        ("SQLITE_UNKNOWN", hrana.OperationalError, None),
        ("RESPONSE_TOO_LARGE", hrana.DataError, None),
        ("SQL_PARSE_ERROR", hrana.ProgrammingError, None),
        ("ARGS_INVALID", hrana.ProgrammingError, None),
        ("TRANSACTION_TIMEOUT", hrana.TransactionLostError, None),
        ("STREAM_EXPIRED", hrana.TransactionLostError, None),
        ("BLOCKED", hrana.OperationalError, None),
        ("SOMETHING_NEW", hrana.OperationalError, None),
        (None, hrana.DatabaseError, None),
    ],
)
def test_codes_choose_the_class(code: str | None, kind: type[Exception], number: object) -> None:
    error = errors.server_error("words", code)
    assert type(error) is kind
    assert error.code == code
    assert error.sqlite_errorcode == number
    named = code if code is not None and code.startswith("SQLITE_") else None
    assert error.sqlite_errorname == named


def test_the_constructors() -> None:
    assert hrana.Date(2026, 1, 2) == "2026-01-02"
    assert hrana.Time(3, 4, 5) == "03:04:05"
    assert hrana.Timestamp(2026, 1, 2, 3, 4, 5) == "2026-01-02 03:04:05"
    assert hrana.DateFromTicks(0) == "1970-01-01"
    assert hrana.TimeFromTicks(61) == "00:01:01"
    assert hrana.TimestampFromTicks(86_400) == "1970-01-02 00:00:00"
    assert hrana.Binary(b"a") == hrana.Binary(bytearray(b"a")) == hrana.Binary(memoryview(b"a"))
    with pytest.raises(TypeError):
        hrana.Binary(3)  # type: ignore[arg-type]


def test_the_type_objects_know_declared_types() -> None:
    assert hrana.STRING == "VARCHAR(20)"
    assert hrana.NUMBER == "BIGINT"
    assert hrana.NUMBER == "double precision"
    assert hrana.BINARY == "BLOB"
    assert hrana.DATETIME == "TIMESTAMP"
    assert hrana.ROWID == "INTEGER"
    assert hrana.STRING != "INTEGER"
    assert hrana.STRING != hrana.NUMBER
    assert repr(hrana.STRING) == "STRING"
    assert len({hrana.STRING, hrana.NUMBER}) == 2
