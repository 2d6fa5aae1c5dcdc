"""Limits and cursors of lists (spec 3.2).

A cursor is base64 of a small JSON list: a digest of what list it belongs to, then the order key
of the last row seen. It resumes behind that key, so inserts and deletes elsewhere do not matter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias, TypeVar, cast

from ..errors import InvalidCursorError, InvalidRequestError
from .entities import Event, Hook, Page, Run, Step, Wait
from .values import is_safe_id, to_ms

MAX_LIMIT: Final = 1000
ListKind: TypeAlias = Literal["runs", "steps", "events", "hooks", "waits"]
Key: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")

DEFAULT_LIMITS: Final[dict[ListKind, int]] = {
    "runs": 100,
    "steps": 100,
    "events": 1000,
    "hooks": 100,
    "waits": 100,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One list read. Rows come in the order of ``kind``'s key (``key_of``), from behind ``after``.

    Keys: events (position) within a run, (created_at, run_id, position) across runs;
    runs (created_at, run_id); steps (created_at, step_id); hooks and waits
    (created_at, run_id, id). Times in keys are milliseconds.

    Attributes:
        limit: at most so many rows.
        payloads: False leaves the payload columns unread (spec 3.4, 3.5).
    """

    kind: ListKind
    run_id: str | None = None
    correlation_id: str | None = None
    statuses: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    workflow_name: str | None = None
    deployment_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    descending: bool = False
    limit: int = 100
    after: Key | None = None
    payloads: bool = True


def fitting(sizes: Sequence[int], max_bytes: int) -> int:
    """How many of the first stay within the bytes together: at least one, if there is one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > max_bytes and count:
            return count
    return len(sizes)


def clamp_limit(limit: int | None, default: int) -> int:
    """The effective limit: the default when absent or not positive, at most 1000.

    Raises: InvalidRequestError for what is no whole number.
    """
    if limit is not None and not isinstance(limit, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"limit must be a whole number, not {limit!r:.60}")
    return default if limit is None or limit <= 0 else min(limit, MAX_LIMIT)


def digest_of(query: Query) -> str:
    """Names the list a cursor belongs to: operation, filters and order, not limit or place."""
    parts: list[object] = [
        query.kind,
        query.run_id,
        query.correlation_id,
        sorted(query.statuses),
        sorted(query.event_types),
        query.workflow_name,
        query.deployment_id,
        None if query.created_after is None else to_ms(query.created_after),
        None if query.created_before is None else to_ms(query.created_before),
        sorted(query.attributes),
        query.descending,
    ]
    text = json.dumps(parts, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def encode_cursor(query: Query, key: Key) -> str:
    text = json.dumps([digest_of(query), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(query: Query, cursor: str) -> Key:
    """Raises: InvalidCursorError when the text is no cursor, or one of another list."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts: object = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidCursorError("The cursor is not one that this list returned") from None
    shape = _shape(query)
    found = cast("list[object]", parts) if isinstance(parts, list) else []
    key = tuple(part for part in found[1:] if isinstance(part, str | int) and _is_bindable(part))
    if found[:1] != [digest_of(query)] or [type(part) for part in key] != list(shape):
        raise InvalidCursorError(
            "The cursor belongs to another list, filter or order: start again without it"
        )
    return key


def _is_bindable(part: str | int) -> bool:
    """Whether a database takes the value, which somebody may have made up."""
    if isinstance(part, str):
        return is_safe_id(part, limit=None)
    return -(1 << 63) <= part < 1 << 63


def key_of(query: Query, row: Run | Step | Event | Hook | Wait) -> Key:
    """The order key of a row in this list."""
    match row:
        case Run():
            return (to_ms(row.created_at), row.run_id)
        case Step():
            return (to_ms(row.created_at), row.step_id)
        case Event():
            if query.run_id is not None:
                return (row.position,)
            return (to_ms(row.created_at), row.run_id, row.position)
        case Hook():
            return (to_ms(row.created_at), row.run_id, row.hook_id)
        case Wait():
            return (to_ms(row.created_at), row.run_id, row.wait_id)


def page_of(
    query: Query, rows: Sequence[T], cursor: str | None, key: Callable[[T], Key]
) -> Page[T]:
    """A page from ``query.limit`` + 1 rows or fewer; ``cursor`` is the one the caller gave.

    Event lists of one run keep a cursor at their end, to ask later for what came after.
    """
    has_more = len(rows) > query.limit
    data = tuple(rows[: query.limit])
    follows = query.kind == "events" and query.run_id is not None and query.correlation_id is None
    if data and (has_more or follows):
        next_cursor: str | None = encode_cursor(query, key(data[-1]))
    else:
        next_cursor = cursor if follows else None
    return Page(data=data, cursor=next_cursor, has_more=has_more)


def _shape(query: Query) -> tuple[type, ...]:
    match query.kind:
        case "runs" | "steps":
            return (int, str)
        case "events":
            return (int,) if query.run_id is not None else (int, str, int)
        case "hooks" | "waits":
            return (int, str, str)
