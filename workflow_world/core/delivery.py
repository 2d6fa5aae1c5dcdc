"""A message's life after a claim: what each outcome of a delivery makes of it (spec 4.3, 4.8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from .entities import Message, MessageStatus
from .values import iso_ms, without_credentials

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
BACKOFF_SPREAD: Final = 0.2
MAX_ERROR_BYTES: Final = 2048
EXHAUSTED_CODE: Final = "MAX_DELIVERIES_EXCEEDED"
_MOST_UNREACHED: Final = 8
"""Deliveries in a row that reached nobody, as far as they are counted: for the backoff."""
_HARMLESS: Final = 2
"""So many deliveries without an end make no suspect: a step of the SDK begins four times at most
before it fails, also when it was another one that ended the process."""
_PUT_OFF: Final = "putOff"
"""In ``last_error``: how many deliveries the handler has put off, with a time to wait."""
_UNREACHED: Final = "unreached"
"""In ``last_error``: how many of the last deliveries reached nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claim's proof: it is live while the stored token is still this one."""

    message_id: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The handler accepted the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The handler asks for the same message again, after a delay; no attempt is consumed."""

    delay_seconds: float
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The handler failed. With ``retry_after_seconds`` it costs no attempt (spec 4.8)."""

    message: str
    status: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The application or the database was not there: no attempt is consumed (design 7)."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The worker gives the message back at shutdown: due at once, nothing consumed."""


Outcome: TypeAlias = Done | Again | Failed | Unreachable | Released


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The options that bound a message's life; delays in seconds."""

    max_deliveries: int = 48
    max_delay_s: float = 82_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The new state of a claimed message; applied only while ``lease_token`` still matches.

    ``unless_key_held``: when another unfinished message holds this key, the message completes
    instead (spec 4.8). ``exhausted`` says that the run of the message must fail with it.
    ``replayed`` is the run that the message replayed, if it did: see ``serialize_runs``.
    ``only_ends``: but for the status and its times all is as it was claimed.
    """

    message_id: str
    lease_token: str
    status: Literal["pending", "completed", "failed"]
    attempt: int
    deliveries: int
    available_at: datetime
    updated_at: datetime
    idempotency_key: str | None
    unless_key_held: bool = False
    last_error: Mapping[str, object] | None = None
    exhausted: bool = False
    replayed: str | None = None
    only_ends: bool = False


def backoff_seconds(failed_attempt: int, spread: float) -> float:
    """Seconds to wait after attempt ``failed_attempt`` (from 1) failed.

    ``spread`` is drawn from [-1, 1] by the caller and becomes ±20 %. Source: spec 4.8.
    """
    base = BACKOFF_MAX_S if failed_attempt > 6 else BACKOFF_FIRST_S * 2 ** (failed_attempt - 1)
    return min(base, BACKOFF_MAX_S) * (1 + BACKOFF_SPREAD * spread)


def settle(
    message: Message, outcome: Outcome, *, now: datetime, spread: float, limits: Limits
) -> Settlement:
    """What ``outcome`` makes of a message this worker holds a lease on. ``spread``: see backoff."""
    match outcome:
        case Done():
            return _ended(message, "completed", now)
        case Again():
            return _again(message, outcome, now, limits)
        case Released():
            return undelivered(message, now)
        case Unreachable():
            return _unreached(message, outcome, now, spread)
        case Failed():
            return _failed(message, outcome, now, spread, limits)


def given_up(message: Message, limits: Limits) -> str | None:
    """Why a claimed message must not be delivered any more, or None (spec 4.3, last rows)."""
    if message.damage is not None:
        return message.damage
    count = _uncharged(message)
    if count <= limits.max_deliveries:
        return None
    last = (message.last_error or {}).get("message")
    what = "were put off or never" if _put_off(message) else "never"
    return f"Given up after {count - 1} deliveries that {what} came to an end" + (
        f"; last error: {last}" if last else ""
    )


def is_suspect(message: Message, limits: Limits) -> bool:
    """Several deliveries of a claimed message never came to an end: perhaps it ends its workers.

    Then whatever is delivered beside it pays for it, so it is to be the only such one.
    """
    harmless = min(_HARMLESS, max(1, limits.max_deliveries // 2))
    return _uncharged(message) <= limits.max_deliveries and without_an_end(message) >= harmless


def without_an_end(message: Message) -> int:
    """How many deliveries nothing came back of: not the present one, nor those that ended."""
    present = message.status == "processing"
    return max(0, _uncharged(message) - _put_off(message) - present)


def _uncharged(message: Message) -> int:
    """Its deliveries, this one included, but for those that cost an attempt: these have a limit of
    their own."""
    return message.deliveries - (message.attempt - 1)


def _put_off(message: Message) -> int:
    return _counted(message, _PUT_OFF)


def _counted(message: Message, name: str) -> int:
    count = (message.last_error or {}).get(name)
    return count if isinstance(count, int) else 0


def _uncounted(message: Message) -> Mapping[str, object] | None:
    """``last_error`` where the deliveries are counted anew, as when an ended message is retried."""
    error = message.last_error
    return error and {
        name: value for name, value in error.items() if name not in (_PUT_OFF, _UNREACHED)
    }


def undelivered(message: Message, now: datetime, *, delay_s: float = 0) -> Settlement:
    """Claimed, but not delivered: due again after ``delay_s`` seconds, and nothing is consumed."""
    return _back(message, now, now + _seconds(delay_s), deliveries=max(0, message.deliveries - 1))


def dead(message: Message, reason: str, now: datetime) -> Settlement:
    """No attempt left: the message stays for inspection and its run must fail."""
    return _ended(message, "failed", now, last_error=error_record(reason, None, now))


def error_record(text: str, status: int | None, now: datetime) -> dict[str, object]:
    """``last_error``: the text without credentials, cut to 2 KiB; the HTTP status; and when."""
    cut = (
        without_credentials(text)
        .encode("utf-8", "replace")[:MAX_ERROR_BYTES]
        .decode("utf-8", "ignore")
    )
    record: dict[str, object] = {"message": cut.replace("\0", ""), "at": iso_ms(now)}
    if status is not None:
        record["status"] = status
    return record


def due_after(now: datetime, delay_seconds: float) -> datetime:
    """When a delay ends, rounded up to a whole millisecond: never early (spec 4.6)."""
    return now + _seconds(delay_seconds)


def _unreached(message: Message, outcome: Unreachable, now: datetime, spread: float) -> Settlement:
    # An outage ends deliveries, too: what was lost up to now says nothing of the message.
    count = min(_counted(message, _UNREACHED) + 1, _MOST_UNREACHED)
    return _back(
        message,
        now,
        now + _seconds(backoff_seconds(count, spread)),
        last_error={**error_record(outcome.message, None, now), _UNREACHED: count},
        deliveries=min(message.deliveries, message.attempt - 1),
    )


def _failed(
    message: Message, outcome: Failed, now: datetime, spread: float, limits: Limits
) -> Settlement:
    error = error_record(outcome.message, outcome.status, now)
    delay = backoff_seconds(message.attempt, spread)
    if outcome.retry_after_seconds is not None:
        delay = min(max(delay, outcome.retry_after_seconds), limits.max_delay_s)
        error[_PUT_OFF] = _put_off(message) + 1
        return _back(message, now, now + _seconds(delay), last_error=error)
    if message.attempt >= message.max_attempts:
        return _ended(message, "failed", now, last_error=error)
    if count := _put_off(message):
        error[_PUT_OFF] = count
    return _back(message, now, now + _seconds(delay), last_error=error, attempt=message.attempt + 1)


def _again(message: Message, outcome: Again, now: datetime, limits: Limits) -> Settlement:
    delay = outcome.delay_seconds if math.isfinite(outcome.delay_seconds) else limits.max_delay_s
    return Settlement(
        message_id=message.message_id,
        lease_token=message.lease_token or "",
        replayed=message.replays,
        status="pending",
        attempt=1,
        deliveries=0,
        available_at=now + _seconds(min(delay, limits.max_delay_s)),
        updated_at=now,
        idempotency_key=outcome.idempotency_key or message.idempotency_key,
        unless_key_held=outcome.idempotency_key is not None,
        last_error=_uncounted(message),
    )


def _back(
    message: Message,
    now: datetime,
    available_at: datetime,
    *,
    last_error: Mapping[str, object] | None = None,
    attempt: int | None = None,
    deliveries: int | None = None,
) -> Settlement:
    return Settlement(
        message_id=message.message_id,
        lease_token=message.lease_token or "",
        replayed=message.replays,
        status="pending",
        attempt=message.attempt if attempt is None else attempt,
        deliveries=message.deliveries if deliveries is None else deliveries,
        available_at=available_at,
        updated_at=now,
        idempotency_key=message.idempotency_key,
        last_error=last_error or message.last_error,
    )


def _ended(
    message: Message,
    status: MessageStatus,
    now: datetime,
    *,
    last_error: Mapping[str, object] | None = None,
) -> Settlement:
    return Settlement(
        message_id=message.message_id,
        lease_token=message.lease_token or "",
        replayed=message.replays,
        status="failed" if status == "failed" else "completed",
        attempt=message.attempt,
        deliveries=message.deliveries,
        available_at=message.available_at,
        updated_at=now,
        idempotency_key=message.idempotency_key,
        last_error=last_error or _uncounted(message),
        exhausted=status == "failed",
        only_ends=status == "completed" and _uncounted(message) == message.last_error,
    )


def _seconds(seconds: float) -> timedelta:
    return timedelta(milliseconds=math.ceil(round(max(0.0, seconds) * 1000, 3)))
