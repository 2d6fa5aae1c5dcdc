"""Values to bytes and back (spec 1.8, 1.9)."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workflow_world.codec import (
    MAX_DEPTH,
    UNDEFINED,
    decode,
    decode_map,
    decode_payload,
    encode,
    encode_map,
    encode_payload,
    without_undefined,
)
from workflow_world.core.entities import ABSENT
from workflow_world.errors import BackendError, InvalidRequestError

texts = st.text(st.characters(codec="utf-8"))
times = st.datetimes(
    datetime(1900, 1, 1),
    datetime(9990, 1, 1),
    timezones=st.just(UTC),
).map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | texts
    | st.binary()
    | times
    | st.just(UNDEFINED)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type, at every depth: 1, 1.0 and True are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one is other or one == other)


@given(values)
@example([0, "", False, b"", [], {}, None, UNDEFINED, 0.0])
@example([2**64, -(2**64) - 1, 10**100])
@example(bytes(range(256)))
@example({"": {"": [[], [{}]]}})
def test_values_come_back_as_they_were(value: Any) -> None:
    """B005, B006, B007."""
    assert same(decode(encode(value)), value)
    payload = decode_payload(encode_payload(value))
    assert same(payload, ABSENT if value is UNDEFINED else value)


def test_special_floats() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]
    assert math.copysign(1, decode(encode(-0.0))) == -1


def test_null_undefined_and_absent_are_three_things() -> None:
    """Spec 1.9."""
    assert encode_payload(ABSENT) is None
    assert encode_payload(UNDEFINED) is None
    assert encode_payload(None) == b"\xf6"
    assert decode_payload(None) is ABSENT
    assert decode_payload(b"\xf6") is None
    inside = decode(encode({"null": None, "undefined": UNDEFINED}))
    assert inside == {"null": None, "undefined": UNDEFINED}
    assert inside["undefined"] is UNDEFINED
    assert without_undefined({"a": UNDEFINED, "b": None, "c": {"d": UNDEFINED}}) == {
        "b": None,
        "c": {"d": UNDEFINED},
    }


def test_maps() -> None:
    assert encode_map(None) is None
    assert decode_map(None) is None
    assert decode_map(encode_map({})) == {}
    assert decode_map(encode_map({"a": b"1"})) == {"a": b"1"}


def test_five_mebibytes() -> None:
    data = bytes(range(256)) * (5 * 4096)
    assert decode(encode({"data": data}))["data"] == data


def test_times_keep_milliseconds_and_instant() -> None:
    """Spec 1.8: tags 0 and 1 are both read."""
    time = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    east = time.astimezone(timezone(timedelta(hours=2)))
    assert decode(encode(time)) == time
    assert decode(encode(east)) == time
    assert decode(bytes.fromhex("c11a70e0b985")) == datetime.fromtimestamp(0x70E0B985, UTC)
    text = b"2030-01-02T03:04:05.678Z"
    assert decode(b"\xc0\x78" + bytes([len(text)]) + text) == time


def test_a_tuple_comes_back_as_a_list() -> None:
    assert decode(encode((1, (2,)))) == [1, [2]]


def test_typed_arrays_of_bytes_become_bytes() -> None:
    """Spec 1.8: tag 64, as JavaScript writes a Uint8Array."""
    assert decode(b"\xd8\x40\x43abc") == b"abc"
    assert decode(b"\xa1\x61k\xd8\x40\x40") == {"k": b""}


def test_what_cbor_cannot_carry_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value in (object(), {"a": lambda: None}, "\ud800", loop):
        with pytest.raises(InvalidRequestError):
            encode(value)


def nested(depth: int) -> object:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def test_everything_that_is_encoded_can_be_decoded() -> None:
    """A value that could be written and never read again would cost its run."""
    assert decode(encode(nested(MAX_DEPTH // 2))) == nested(MAX_DEPTH // 2)
    for depth in (MAX_DEPTH + 1, 2 * MAX_DEPTH, 100_000):
        with pytest.raises(InvalidRequestError):
            encode(nested(depth))


def test_what_could_not_be_read_again_is_refused() -> None:
    """The encoder takes these, and the decoder does not."""
    sets: object = frozenset([(1, 2)])
    keys: object = (1,)
    for _ in range(MAX_DEPTH - 2):
        sets, keys = [sets], (keys,)
    odd = timezone(timedelta(microseconds=5))
    deep: object = 2**64
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    for value in (sets, {keys: 1}, cbor2.CBORTag(29, 5), datetime(2030, 1, 1, tzinfo=odd), deep):
        with pytest.raises(InvalidRequestError, match="read again"):
            encode([value] if value is not sets else value)
    assert decode(encode({(1, 2): {3, 4}})) == {(1, 2): {3, 4}}


@pytest.mark.timeout(20)
def test_a_value_with_two_references_to_itself_is_refused() -> None:
    """At each level it is met twice as often."""
    parent: dict[str, object] = {}
    parent["children"] = [{"parent": parent}, {"parent": parent}]
    with pytest.raises(InvalidRequestError, match="nested"):
        encode(parent)


def test_a_bomb_of_nesting_is_refused_on_reading() -> None:
    with pytest.raises(BackendError):
        decode(b"\x81" * 100_000 + b"\x01")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1c",
        b"\x18",
        b"\xa1\x61k",
        b"\x63ab",
        b"\x61\xff",
        b"\xff",
        b"\x9f\x01",
        b"\xc0\x63abc",
        b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd8\x23\x61(",
        b"\xd8\x25\x41a",
        b"\xd8\x1e\x82\x01\x00",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_corrupt_bytes_are_a_typed_error(data: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        decode(data)
    assert caught.value.code == "CORRUPT"
    assert caught.value.__cause__ is not None


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(BackendError):
        decode(data)


@given(values, st.data())
def test_cut_bytes_are_a_typed_error(value: Any, data: st.DataObject) -> None:
    whole = encode(value)
    with pytest.raises(BackendError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_no_value_makes_a_thread_import_anything() -> None:
    """Whatever is needed is imported with the package."""
    script = """
import sys
from datetime import UTC, datetime
from workflow_world.codec import UNDEFINED, decode, encode
before = set(sys.modules)
value = [None, True, 1, 10**30, 1.5, "text", b"bytes", {"a": [1]}, datetime.now(UTC), UNDEFINED]
assert len(decode(encode(value))) == len(value)
assert set(sys.modules) == before, set(sys.modules) - before
"""
    ran = subprocess.run(  # our own script
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr
