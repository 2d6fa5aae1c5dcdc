"""Python values to and from Hrana's JSON, and the type objects of PEP 249.

Integers travel as decimal strings, so all 64 bits are exact; bytes as base64 without padding.
"""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from datetime import UTC, date, datetime, time
from typing import Any, Final, TypeAlias

from .errors import DataError, InterfaceError

Value: TypeAlias = int | float | str | bytes | bytearray | memoryview | None
"""What may be bound; a bool is sent as 0 or 1."""

Json: TypeAlias = dict[str, Any]

_NULL: Final[Json] = {"type": "null"}
_MIN, _MAX = -(2**63), 2**63 - 1


def encode(value: object) -> Json:
    """Raises: DataError for a value that no column holds exactly, InterfaceError for a type."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise DataError("Text with lone surrogates cannot be stored") from None
        return {"type": "text", "value": value}
    if isinstance(value, int):
        if not _MIN <= value <= _MAX:
            raise DataError("An integer is outside of the 64 bits that can be stored")
        return {"type": "integer", "value": str(int(value))}
    if isinstance(value, memoryview):
        value = value.tobytes()
    if isinstance(value, (bytes, bytearray)):
        data = b2a_base64(value, newline=False).rstrip(b"=")
        return {"type": "blob", "base64": data.decode("ascii")}
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError("NaN and infinity cannot be sent")
        return {"type": "float", "value": float(value)}
    raise InterfaceError(f"A value of type {type(value).__name__} cannot be bound")


def decode(value: Json) -> int | float | str | bytes | None:
    """Raises: DataError for what JSON cannot carry; KeyError, ValueError for what is not Hrana."""
    kind = value["type"]
    if kind == "text":
        return str(value["value"])
    if kind == "integer":
        return int(value["value"])
    if kind == "null":
        return None
    if kind == "blob":
        data: str = value["base64"]
        return a2b_base64(data + "=" * (-len(data) % 4))
    if kind == "float":
        if value["value"] is None:
            raise DataError("The result has an infinite number, which the server cannot send")
        return float(value["value"])
    raise ValueError(kind)


class TypeObject:
    """Equal to the declared types that it stands for, whatever their length or precision."""

    def __init__(self, name: str, *marks: str) -> None:
        self._name, self._marks = name, marks

    def __repr__(self) -> str:
        return self._name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return any(mark in other.upper() for mark in self._marks)
        return self is other

    __hash__ = object.__hash__


STRING = TypeObject("STRING", "CHAR", "CLOB", "TEXT")
BINARY = TypeObject("BINARY", "BLOB", "BINARY")
NUMBER = TypeObject("NUMBER", "INT", "REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL", "BOOL")
DATETIME = TypeObject("DATETIME", "DATE", "TIME")
ROWID = TypeObject("ROWID", "INTEGER")


def Binary(data: bytes | bytearray | memoryview) -> bytes:  # noqa: N802
    """Bytes to bind."""
    return data if isinstance(data, bytes) else memoryview(data).tobytes()


# SQLite has no type for times: as text in ISO 8601 they sort, and its date functions read them.


def Date(year: int, month: int, day: int) -> str:  # noqa: N802
    """``2026-11-22``."""
    return date(year, month, day).isoformat()


def Time(hour: int, minute: int, second: int) -> str:  # noqa: N802
    """``23:59:59``."""
    return time(hour, minute, second).isoformat()


def Timestamp(  # noqa: N802
    year: int, month: int, day: int, hour: int, minute: int, second: int
) -> str:
    """``2026-11-22 23:59:59``."""
    return datetime(year, month, day, hour, minute, second).isoformat(" ")


def DateFromTicks(ticks: float) -> str:  # noqa: N802
    """The UTC date, ``ticks`` seconds after 1970."""
    return datetime.fromtimestamp(ticks, UTC).date().isoformat()


def TimeFromTicks(ticks: float) -> str:  # noqa: N802
    """The UTC time of day, ``ticks`` seconds after 1970, to the second."""
    return datetime.fromtimestamp(ticks, UTC).time().isoformat("seconds")


def TimestampFromTicks(ticks: float) -> str:  # noqa: N802
    """The UTC date and time, ``ticks`` seconds after 1970, to the second."""
    return datetime.fromtimestamp(ticks, UTC).replace(tzinfo=None).isoformat(" ", "seconds")
