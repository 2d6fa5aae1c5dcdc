"""What the outcome of a delivery makes of its message (spec 4.3, 4.6, 4.8)."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core.delivery import (
    EXHAUSTED_CODE,
    MAX_ERROR_BYTES,
    Again,
    Done,
    Failed,
    Limits,
    Outcome,
    Released,
    Settlement,
    Unreachable,
    backoff_seconds,
    dead,
    due_after,
    error_record,
    given_up,
    is_suspect,
    settle,
    undelivered,
)
from workflow_world.core.entities import Message
from workflow_world.testing.clock import START

LIMITS = Limits()
MESSAGE = Message(
    message_id="msg_1",
    queue_name="__wkf_workflow_x",
    payload=b"\xa0",
    status="processing",
    attempt=1,
    max_attempts=3,
    deliveries=1,
    idempotency_key="own",
    available_at=START - timedelta(seconds=5),
    lease_token="lease",  # noqa: S106
    leased_until=START + timedelta(seconds=30),
    claimed_at=START,
    run_id="wrun_1",
    created_at=START,
    updated_at=START,
)
outcomes = st.one_of(
    st.just(Done()),
    st.just(Released()),
    st.builds(Unreachable, message=st.text()),
    st.builds(
        Failed,
        message=st.text(),
        status=st.none() | st.integers(100, 599),
        retry_after_seconds=st.none() | st.floats(-10, 1e6),
    ),
    st.builds(
        Again, delay_seconds=st.floats(-10, 1e6), idempotency_key=st.none() | st.just("other")
    ),
)


def settled(message: Message, outcome: Outcome, spread: float = 0.0) -> Settlement:
    return settle(message, outcome, now=START, spread=spread, limits=LIMITS)


def delivered(message: Message, settlement: Settlement) -> Message:
    """The message as its next claim hands it out."""
    return replace(
        message,
        status="processing",
        attempt=settlement.attempt,
        deliveries=settlement.deliveries + 1,
        idempotency_key=settlement.idempotency_key,
        last_error=settlement.last_error,
    )


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)]
)
def test_backoff_values(attempt: int, seconds: int) -> None:
    """B128."""
    assert backoff_seconds(attempt, 0) == seconds
    assert backoff_seconds(attempt, -1) == pytest.approx(seconds * 0.8)
    assert backoff_seconds(attempt, 1) == pytest.approx(seconds * 1.2)


@given(st.integers(1, 10_000), st.floats(-1, 1))
def test_backoff_stays_in_its_band(attempt: int, spread: float) -> None:
    base = min(2 ** (attempt - 1), 60)
    assert base * 0.8 - 1e-9 <= backoff_seconds(attempt, spread) <= base * 1.2 + 1e-9


def test_done() -> None:
    done = settled(MESSAGE, Done())
    assert (done.status, done.attempt, done.deliveries) == ("completed", 1, 1)
    assert (done.message_id, done.lease_token, done.idempotency_key) == ("msg_1", "lease", "own")
    assert not done.exhausted
    assert not done.unless_key_held


def test_failures_use_up_the_attempts() -> None:
    """B127: attempts 1, 2, 3, then failed; the due time grows inside the band."""
    message = MESSAGE
    for attempt, seconds in ((1, 1), (2, 2)):
        failed = settled(message, Failed(message="boom", status=500), spread=0.5)
        assert (failed.status, failed.attempt) == ("pending", attempt + 1)
        assert failed.available_at == START + timedelta(seconds=seconds * 1.1)
        assert failed.last_error == {
            "message": "boom",
            "status": 500,
            "at": "2030-01-02T03:04:05.678Z",
        }
        message = delivered(message, failed)
    last = settled(message, Failed(message="at last"))
    assert (last.status, last.attempt, last.exhausted) == ("failed", 3, True)
    assert last.last_error is not None
    assert last.last_error["message"] == "at last"


def test_a_continuation_consumes_no_attempt() -> None:
    """B129, C-23: after two failures and a continuation there are three attempts again."""
    message = MESSAGE
    for _ in range(2):
        message = delivered(message, settled(message, Failed(message="boom")))
    assert message.attempt == 3
    again = settled(message, Again(delay_seconds=0.25))
    assert (again.status, again.attempt, again.deliveries) == ("pending", 1, 0)
    assert again.available_at == START + timedelta(milliseconds=250)
    assert (again.idempotency_key, again.unless_key_held) == ("own", False)
    message = delivered(message, again)
    for attempt in (1, 2):
        assert message.attempt == attempt
        message = delivered(message, settled(message, Failed(message="boom")))
    assert settled(message, Failed(message="boom")).status == "failed"


def test_a_thousand_continuations_exhaust_nothing() -> None:
    """B130."""
    message = MESSAGE
    for _ in range(1000):
        assert given_up(message, LIMITS) is None
        message = delivered(message, settled(message, Again(delay_seconds=0)))
    assert (message.attempt, message.deliveries) == (1, 1)


def test_a_continuation_with_a_key() -> None:
    """B131, B132: the key becomes the message's, unless another holds it."""
    for key in ("other", "own"):
        again = settled(MESSAGE, Again(delay_seconds=1, idempotency_key=key))
        assert (again.idempotency_key, again.unless_key_held) == (key, True)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(0, 0), (-5, 0), (0.0004, 0.001), (82_800, 82_800), (1e9, 82_800), (math.inf, 82_800)],
)
def test_the_delay_of_a_continuation_is_bounded(asked: float, seconds: float) -> None:
    again = settled(MESSAGE, Again(delay_seconds=asked))
    assert again.available_at == START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(0, 4), (-1, 4), (3, 4), (30, 30), (1e9, 82_800)]
)
def test_retry_after_costs_no_attempt(retry_after: float, seconds: float) -> None:
    """Spec 4.8, B148: it raises the backoff, and holds even for the last attempt."""
    message = replace(MESSAGE, attempt=3, deliveries=7)
    failed = settled(message, Failed(message="busy", status=429, retry_after_seconds=retry_after))
    assert (failed.status, failed.attempt, failed.deliveries) == ("pending", 3, 7)
    assert failed.available_at == START + timedelta(seconds=seconds)
    assert failed.last_error is not None
    assert failed.last_error["status"] == 429


def test_unreachable_costs_no_attempt_and_never_gives_up() -> None:
    """Design 7: an outage of any length waits with backoff up to a minute."""
    message, delays = replace(MESSAGE, attempt=3), list[float]()
    for _ in range(100):
        assert given_up(message, LIMITS) is None
        back = settled(message, Unreachable(message="connection refused"))
        assert (back.status, back.attempt) == ("pending", 3)
        delays.append((back.available_at - START).total_seconds())
        message = delivered(message, back)
    assert delays[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(delays[8:]) == {60}


def test_release_at_shutdown() -> None:
    """Spec 4.3: due now, attempt and error as they were; a restart does not count."""
    message = replace(MESSAGE, attempt=2, deliveries=5, last_error={"message": "old"})
    back = settled(message, Released())
    assert (back.status, back.attempt, back.deliveries) == ("pending", 2, 4)
    assert back.available_at == START
    assert back.last_error == {"message": "old"}


def test_a_message_that_kills_its_worker_is_given_up() -> None:
    """B141: 48 claims are allowed; the next one ends it."""
    assert given_up(replace(MESSAGE, deliveries=48), LIMITS) is None
    message = replace(MESSAGE, deliveries=49, last_error={"message": "boom"})
    reason = given_up(message, LIMITS)
    assert reason is not None
    assert "48 deliveries" in reason
    assert "boom" in reason
    end = dead(message, reason, START)
    assert (end.status, end.exhausted, end.deliveries) == ("failed", True, 49)
    assert end.last_error == {"message": reason, "at": "2030-01-02T03:04:05.678Z"}
    assert EXHAUSTED_CODE == "MAX_DELIVERIES_EXCEEDED"


@given(st.text(max_size=5000), st.none() | st.integers(100, 599))
def test_errors_are_cut_to_two_kibibytes(text: str, status: int | None) -> None:
    record = error_record(text, status, START)
    message = record["message"]
    assert isinstance(message, str)
    assert "\0" not in message
    assert len(message.encode()) <= MAX_ERROR_BYTES
    assert record.get("status") == status


def test_a_cut_error_ends_with_a_whole_character() -> None:
    message = error_record("é" * 2000, None, START)["message"]
    assert message == "é" * 1024
    assert error_record("a" + "é" * 2000, None, START)["message"] == "a" + "é" * 1023
    assert error_record("\ud800x", None, START)["message"] == "?x"


@given(st.floats(0, 1e7))
def test_delays_round_up_to_whole_milliseconds(seconds: float) -> None:
    """Spec 4.6: never early, by a microsecond at most through the rounding of floats."""
    due = due_after(START, seconds)
    assert due.microsecond % 1000 == 0
    late = (due - START).total_seconds() - seconds
    assert -1e-6 <= late < 0.001 + 1e-6


def test_delays_that_floats_cannot_say_exactly() -> None:
    for tenths in range(100):
        assert due_after(START, tenths / 10) == START + timedelta(milliseconds=tenths * 100)


@given(outcomes, st.floats(-1, 1), st.integers(1, 3), st.integers(1, 48))
def test_every_outcome_settles(
    outcome: Outcome, spread: float, attempt: int, deliveries: int
) -> None:
    message = replace(MESSAGE, attempt=attempt, deliveries=deliveries)
    new = settle(message, outcome, now=START, spread=spread, limits=LIMITS)
    assert (new.message_id, new.lease_token, new.updated_at) == ("msg_1", "lease", START)
    assert 1 <= new.attempt <= message.max_attempts
    assert 0 <= new.deliveries <= deliveries
    assert new.exhausted == (new.status == "failed")
    if new.status == "pending":
        longest = timedelta(seconds=LIMITS.max_delay_s)
        assert START <= new.available_at <= START + longest
        assert new.available_at.microsecond % 1000 == 0
    else:
        assert isinstance(outcome, Done | Failed)


@pytest.mark.parametrize(
    ("most", "expected"), [(8, [3, 4, 5, 6, 7, 8]), (3, [2, 3]), (2, [2]), (1, [])]
)
def test_a_suspect_was_lost_twice(most: int, expected: list[int]) -> None:
    """Or half of the times that it may be, so that it is one before it is given up."""
    limits = Limits(max_deliveries=most)
    found = [
        number for number in range(1, 12) if is_suspect(replace(MESSAGE, deliveries=number), limits)
    ]
    assert found == expected


def test_an_outage_hides_no_suspect() -> None:
    """What was lost before it counts no more; what is lost after it does."""
    lost = replace(MESSAGE, deliveries=3)
    assert is_suspect(lost, LIMITS)
    back = delivered(lost, settled(lost, Unreachable(message="no")))
    assert not is_suspect(back, LIMITS)
    assert [
        is_suspect(replace(back, deliveries=back.deliveries + more), LIMITS) for more in range(3)
    ] == [False, False, True]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 12, 48])
def test_an_outage_neither_ends_a_message_nor_makes_it_a_suspect(most: int) -> None:
    limits, message = Limits(max_deliveries=most), replace(MESSAGE, attempt=3, deliveries=3)
    for _ in range(60):
        assert given_up(message, limits) is None
        assert not is_suspect(message, limits)
        back = settle(message, Unreachable(message="no"), now=START, spread=0, limits=limits)
        message = delivered(message, back)
    for _ in range(most):
        assert given_up(message, limits) is None
        message = replace(message, deliveries=message.deliveries + 1)
    reason = given_up(message, limits)
    assert reason is not None
    assert f"Given up after {most} deliveries that never came to an end" in reason


def test_attempts_are_no_deliveries_without_an_end() -> None:
    """All of them are made, however many they are."""
    message = replace(MESSAGE, max_attempts=100)
    for attempt in range(1, 100):
        assert given_up(message, LIMITS) is None
        assert not is_suspect(message, LIMITS)
        assert message.attempt == attempt
        message = delivered(message, settled(message, Failed(message="boom")))
    last = settled(message, Failed(message="boom"))
    assert (last.status, last.last_error and last.last_error["message"]) == ("failed", "boom")


def test_a_message_that_is_put_off_is_bounded_but_no_suspect() -> None:
    busy = Failed(message="busy", status=429, retry_after_seconds=1)
    message = MESSAGE
    for _ in range(LIMITS.max_deliveries):
        assert given_up(message, LIMITS) is None
        assert not is_suspect(message, LIMITS)
        message = delivered(message, settled(message, busy))
    reason = given_up(message, LIMITS)
    assert reason is not None
    assert "48 deliveries that were put off or never came to an end; last error: busy" in reason


def test_what_was_put_off_hides_no_suspect() -> None:
    """Deliveries without an end count as before; a continuation begins anew."""
    busy = Failed(message="busy", retry_after_seconds=1)
    message = delivered(MESSAGE, settled(MESSAGE, busy))
    message = delivered(message, settled(message, Failed(message="boom")))
    lost = replace(message, deliveries=message.deliveries + LIMITS.max_deliveries // 2)
    assert is_suspect(lost, LIMITS)
    again = settled(message, Again(delay_seconds=0))
    assert again.last_error == {"message": "boom", "at": "2030-01-02T03:04:05.678Z"}


@pytest.mark.parametrize("outcome", [Done(), Failed(message="boom")])
def test_what_was_put_off_is_forgotten_at_the_end(outcome: Outcome) -> None:
    """A message that is retried is as good as new, and else were no suspect for long."""
    message = replace(MESSAGE, max_attempts=1)
    for _ in range(5):
        busy = Failed(message="busy", retry_after_seconds=1)
        message = delivered(message, settled(message, busy))
    end = settled(message, outcome)
    assert not end.only_ends
    retried = replace(message, attempt=1, deliveries=3, last_error=end.last_error)
    assert is_suspect(retried, LIMITS)


def test_a_message_that_was_not_delivered_pays_nothing() -> None:
    message = replace(MESSAGE, deliveries=6, attempt=2)
    for delay_s in (0, 1):
        settled = undelivered(message, MESSAGE.updated_at, delay_s=delay_s)
        assert (settled.status, settled.attempt, settled.deliveries) == ("pending", 2, 5)
        assert settled.available_at == MESSAGE.updated_at + timedelta(seconds=delay_s)
