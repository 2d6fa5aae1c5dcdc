"""ULIDs, prefixed ids, and the small helpers for times and texts (spec 1.1, 1.2)."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world import ids
from workflow_world.core.ulid import RANDOM_BITS, encode_ulid, ulid_time
from workflow_world.core.values import aware_ms, from_ms, is_safe_id, iso_ms, to_ms, utf16_length

TIMES = st.integers(0, (1 << 48) - 1)
TAILS = st.integers(0, (1 << RANDOM_BITS) - 1)
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def test_ids_rise_strictly_in_a_tight_loop() -> None:
    """B001."""
    minted = [ids.new_id("wrun") for _ in range(10_000)]
    assert minted == sorted(set(minted))
    for one in minted[::1000]:
        prefix, _, ulid = one.partition("_")
        assert prefix == "wrun"
        assert ULID.fullmatch(ulid)


def test_ids_of_several_threads_never_repeat() -> None:
    minted: list[list[str]] = [[] for _ in range(4)]

    def mint(own: list[str]) -> None:
        own.extend(ids.new_ulid() for _ in range(2_000))

    threads = [threading.Thread(target=mint, args=(own,)) for own in minted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(own == sorted(own) for own in minted)
    assert len(set().union(*minted)) == 8_000


def test_the_clock_stands_still_or_goes_back() -> None:
    """Spec 1.1: the random part is incremented; when it overflows, the time part is."""
    now = 5_000
    factory = ids.UlidFactory(lambda: now * 1_000_000, lambda bits: (1 << bits) - 2)
    first, second, third = factory(), factory(), factory()
    now = 4_000
    fourth = factory()
    assert [ulid_time(one) for one in (first, second, third, fourth)] == [5000, 5000, 5001, 5001]
    assert first < second < third < fourth
    now = 6_000
    assert ulid_time(factory()) == 6000


@given(TIMES, TAILS, TIMES, TAILS)
def test_ulids_sort_as_their_parts(time: int, tail: int, other: int, other_tail: int) -> None:
    one, two = encode_ulid(time, tail), encode_ulid(other, other_tail)
    assert ULID.fullmatch(one)
    assert (one < two) == ((time, tail) < (other, other_tail))
    assert (one == two) == ((time, tail) == (other, other_tail))
    assert ulid_time(one) == time


def test_known_ulid() -> None:
    assert encode_ulid(1_469_918_176_385, 0) == "01ARYZ6S41" + "0" * 16
    assert encode_ulid(0, 1) == "0" * 25 + "1"
    assert encode_ulid((1 << 48) - 1, (1 << 80) - 1) == "7" + "Z" * 25


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "U" * 26, "0" * 25 + "é", "0" * 25 + "a"])
def test_texts_that_are_no_ulid(text: str) -> None:
    assert ulid_time(text) is None


@given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()))
def test_times_are_cut_to_milliseconds(value: datetime) -> None:
    """Spec 1.1: cut, not rounded, the same instant, exactly."""
    cut = aware_ms(value)
    assert cut.tzinfo is UTC
    assert cut.microsecond == value.microsecond // 1000 * 1000
    assert timedelta(0) <= value.astimezone(UTC) - cut < timedelta(milliseconds=1)
    assert aware_ms(cut) == cut
    assert from_ms(to_ms(cut)) == cut
    assert datetime.fromisoformat(iso_ms(value)) == cut
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso_ms(value))


def test_a_derived_time_becomes_a_plain_one() -> None:
    """As those are that a workflow makes in the SDK's sandbox; CBOR cannot carry them."""

    class Derived(datetime):
        pass

    for zone in (None, UTC, timezone(timedelta(hours=2))):
        plain = datetime(2030, 1, 2, 3, 4, 5, 678_999, zone)
        made = aware_ms(Derived(2030, 1, 2, 3, 4, 5, 678_999, zone))
        assert type(made) is datetime
        assert (made, made.tzinfo) == (aware_ms(plain), UTC)


def test_a_naive_time_is_utc() -> None:
    naive = datetime(2030, 1, 2, 3, 4, 5, 678_999)
    assert aware_ms(naive) == datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    east = naive.replace(tzinfo=timezone(timedelta(hours=2)))
    assert aware_ms(east) == datetime(2030, 1, 2, 1, 4, 5, 678_000, tzinfo=UTC)
    assert iso_ms(east) == "2030-01-02T01:04:05.678Z"


@given(st.integers(-(10**12), 10**14))
def test_milliseconds_are_exact(value: int) -> None:
    assert to_ms(from_ms(value)) == value


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("", False),
        ("a", True),
        ("x" * 512, True),
        ("x" * 513, False),
        ("a\0", False),
        ("\ud800", False),
        ("a b/é😀\n", True),
    ],
)
def test_safe_ids(text: str, safe: bool) -> None:
    assert is_safe_id(text) is safe


@given(st.text())
def test_utf16_length(text: str) -> None:
    assert utf16_length(text) == len(text.encode("utf-16-le")) // 2
