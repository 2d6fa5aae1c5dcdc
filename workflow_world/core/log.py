"""Positions, event ids and times of new log rows (spec 2.2)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import lru_cache

from .decision import LastEvent
from .entities import Event, EventData
from .events import SLOT_IDS_SPEC_VERSION, NewEvent
from .ulid import ULID_LENGTH, encode_ulid, ulid_time
from .values import to_ms

_POSITION_BITS = 32
_HASH_BYTES = 6  # with the position: the 80 bits behind a ULID's time


def append(
    run_id: str,
    spec_version: int | None,
    last: LastEvent | None,
    now: datetime,
    event: NewEvent,
    *,
    due_at: datetime | None = None,
    event_type: str | None = None,
    event_data: EventData | None = None,
    without_data: bool = False,
) -> Event:
    """The log row that follows ``last``: next position, an id above its id, a time not before its.

    ``spec_version`` is the run's; it decides between slot ids and ULIDs.
    """
    position = 1 if last is None else last.position + 1
    created_at = now if last is None else max(now, last.created_at)
    data = None if without_data else (event_data if event_data is not None else event.event_data)
    return Event(
        run_id=run_id,
        event_id=event_id(run_id, spec_version, position, created_at, last),
        position=position,
        event_type=event_type or event.event_type,
        correlation_id=event.correlation_id,
        spec_version=event.spec_version,
        event_data=data,
        created_at=created_at,
        occurred_at=event.occurred_at,
        resume_id=event.resume_id,
        payload_digest=event.payload_digest,
        due_at=due_at,
    )


def event_id(
    run_id: str,
    spec_version: int | None,
    position: int,
    created_at: datetime,
    last: LastEvent | None,
) -> str:
    """A slot id from spec version 6 on, else a ULID above the last one.

    The ULID's random part is a hash of the run id and the position, so ids are unique, rise with
    the position within a millisecond, and need no randomness under the lock.
    """
    if (spec_version or 1) >= SLOT_IDS_SPEC_VERSION:
        return f"evnt_{position:0{ULID_LENGTH}d}"
    time, tail = to_ms(created_at), _hash_of(run_id) << _POSITION_BITS | position
    candidate = f"evnt_{encode_ulid(time, tail)}"
    if last is not None and candidate <= last.event_id:
        # A foreign id that is ahead of our clock (or of another prefix): step over it.
        previous = ulid_time(last.event_id.rpartition("_")[2])
        if previous is not None:
            time = max(time, previous + 1)
        candidate = f"evnt_{encode_ulid(time, tail)}"
    return candidate


@lru_cache(maxsize=4096)
def _hash_of(run_id: str) -> int:
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:_HASH_BYTES])
