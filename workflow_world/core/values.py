"""Small pure helpers for times, ids and text lengths."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

MAX_ID: Final = 512
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CREDENTIALS: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE)
_MILLISECOND: Final = timedelta(milliseconds=1)


def aware_ms(value: datetime) -> datetime:
    """The same instant in UTC, cut (not rounded) to milliseconds; naive means UTC (spec 1.1).

    Of a class derived from ``datetime`` a plain one is made, for only those can be stored.
    Raises: OverflowError when it is no year from 1 to 9999 in UTC.
    """
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if type(value) is not datetime:
        value = datetime.combine(value.date(), value.time(), UTC)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def to_ms(value: datetime) -> int:
    """Milliseconds since 1970; exact, no floating point."""
    return (value - EPOCH) // _MILLISECOND


@lru_cache(maxsize=1024)
def from_ms(value: int) -> datetime:
    return EPOCH + timedelta(milliseconds=value)


def iso_ms(value: datetime) -> str:
    """ISO-8601 with ``Z`` and exactly three fractional digits (spec 1.1)."""
    return aware_ms(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def changed(record: T, **changes: Any) -> T:
    """``dataclasses.replace`` at half its price, for the records that every event changes."""
    names, values = _fields_of(cast("type", type(record)))
    return type(record)(**(dict(zip(names, values(record), strict=True)) | changes))


@cache
def _fields_of(kind: type) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)


def is_safe_id(value: str, limit: int | None = MAX_ID) -> bool:
    """Non-empty, not longer than ``limit`` characters, no NUL, encodable (spec 1.1)."""
    if not value or "\0" in value or (limit is not None and len(value) > limit):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate cannot be stored as text
        return False
    return True


def without_credentials(text: str) -> str:
    """The text with ``user:password@`` taken out of every URL in it."""
    return _CREDENTIALS.sub(r"\1***@", text)


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, the unit of the limits shared with TypeScript."""
    return len(text) + sum(character > "\uffff" for character in text)
