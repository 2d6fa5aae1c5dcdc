"""What the driver reads in SQL text, and what it refuses before anything is sent."""

from __future__ import annotations

import decimal
import enum
from typing import Any

import pytest

from workflow_world import hrana
from workflow_world.hrana.statements import parse
from workflow_world.hrana.values import decode, encode


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("begin", "begin"),
        ("BEGIN IMMEDIATE TRANSACTION", "begin"),
        ("-- why\n/* not */ commit", "commit"),
        ("END", "commit"),
        ("rollback", "rollback"),
        ("ROLLBACK TRANSACTION", "rollback"),
        ("ROLLBACK TO one", "savepoint"),
        ("rollback transaction to savepoint one", "savepoint"),
        ("SAVEPOINT one", "savepoint"),
        ("RELEASE one", "savepoint"),
        ("  select 1", "read"),
        ("(select 1)", "read"),
        ("INSERT INTO t VALUES (1)", "write"),
        ("with x as (select 1) insert into t select * from x", "other"),
        ("PRAGMA foreign_keys", "other"),
    ],
)
def test_kinds(sql: str, kind: str) -> None:
    assert parse(sql).kind == kind


@pytest.mark.parametrize(
    ("sql", "names", "marks"),
    [
        ("select :a, @b, $c, :a", (":a", "@b", "$c"), False),
        ("select ?, ?2", (), True),
        ("select ':no ?', \":no\", `:no`, [:no] -- :no ?\n /* :no ? */", (), False),
        ("select 'it''s :no', :yes", (":yes",), False),
        ("select j ->> '$.a', t$x from t /* open", (), False),
        ("select :über", (":über",), False),
    ],
)
def test_parameters(sql: str, names: tuple[str, ...], marks: bool) -> None:
    found = parse(sql)
    assert (found.names, found.has_marks) == (names, marks)


def test_a_mapping_may_hold_more_than_is_asked_for() -> None:
    bound = parse("select :b, @a").bind({"a": 1, "b": None, "c": object()})
    assert bound["named_args"] == [
        {"name": ":b", "value": {"type": "null"}},
        {"name": "@a", "value": {"type": "integer", "value": "1"}},
    ]


@pytest.mark.parametrize(
    ("sql", "parameters", "kind"),
    [
        ("select :a", {}, hrana.ProgrammingError),
        ("select :a", (1,), hrana.ProgrammingError),
        ("select :a", (), hrana.ProgrammingError),
        ("select ?", {"a": 1}, hrana.ProgrammingError),
        ("select ?", "1", hrana.InterfaceError),
        ("select ?", b"1", hrana.InterfaceError),
        ("select ?", 1, hrana.InterfaceError),
        ("select ?", None, hrana.InterfaceError),
        ("select ?", {1, 2}, hrana.InterfaceError),
    ],
)
def test_wrong_parameters(sql: str, parameters: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse(sql).bind(parameters)


@pytest.mark.parametrize("sql", ["", "  \n", "-- only a comment", "/* open", ";", "select 1\0"])
def test_texts_without_a_statement(sql: str) -> None:
    with pytest.raises(hrana.ProgrammingError):
        parse(sql)


class Colour(enum.IntEnum):
    RED = 7


class Word(enum.StrEnum):
    HELLO = "hello"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (None, {"type": "null"}),
        (True, {"type": "integer", "value": "1"}),
        (Colour.RED, {"type": "integer", "value": "7"}),
        (2**63 - 1, {"type": "integer", "value": "9223372036854775807"}),
        (-(2**63), {"type": "integer", "value": "-9223372036854775808"}),
        (Word.HELLO, {"type": "text", "value": "hello"}),
        (b"\x01\x02", {"type": "blob", "base64": "AQI"}),
        (bytearray(b""), {"type": "blob", "base64": ""}),
        (memoryview(b"abcd")[::2], {"type": "blob", "base64": "YWM"}),
        (0.1, {"type": "float", "value": 0.1}),
    ],
)
def test_what_is_sent(value: object, sent: dict[str, Any]) -> None:
    assert encode(value) == sent


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**63, hrana.DataError),
        (-(2**63) - 1, hrana.DataError),
        (float("nan"), hrana.DataError),
        (float("inf"), hrana.DataError),
        (-float("inf"), hrana.DataError),
        ("half \ud800 a pair", hrana.DataError),
        (decimal.Decimal(1), hrana.InterfaceError),
        (1j, hrana.InterfaceError),
        (object(), hrana.InterfaceError),
        ([1], hrana.InterfaceError),
    ],
)
def test_what_is_refused(value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        encode(value)
    assert "9223372036854775808" not in str(caught.value)


def test_base64_is_read_with_and_without_padding() -> None:
    for text in ("AQI", "AQI="):
        assert decode({"type": "blob", "base64": text}) == b"\x01\x02"


def test_values_that_are_not_hrana() -> None:
    with pytest.raises(ValueError, match="what"):
        decode({"type": "what"})
    with pytest.raises(KeyError):
        decode({})
