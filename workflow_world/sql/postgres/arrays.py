"""Columns of values as arrays, so that one statement takes many rows.

They have types of their own: the server then always gets the same types, also when all values
are missing, and a statement is prepared once. Encoding them here also costs less than psycopg's own
way with lists.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from sqlalchemy.types import Boolean, Integer, LargeBinary, String, TypeEngine

_HEAD: Final = struct.Struct("!iiIii")  # dimensions, whether NULLs, type; length, first index
_LENGTH: Final = struct.Struct("!i")
_INT8: Final = struct.Struct("!iq")
_NULL: Final = _LENGTH.pack(-1)
_TRUE: Final = _LENGTH.pack(1) + b"\1"
_FALSE: Final = _LENGTH.pack(1) + b"\0"


class Texts(tuple[Any, ...]):
    """``text[]``"""


class Numbers(tuple[Any, ...]):
    """``bigint[]``"""


class Blobs(tuple[Any, ...]):
    """``bytea[]``"""


class Switches(tuple[Any, ...]):
    """``boolean[]``"""


def array_of(type_: TypeEngine[Any]) -> tuple[type[tuple[Any, ...]], str] | None:
    """What holds values of a column of this type, and the server's name of it; None: none."""
    for base, made in _ARRAYS:
        if isinstance(type_, base):
            return made
    return None


_ARRAYS: Final[tuple[tuple[type[TypeEngine[Any]], tuple[type[tuple[Any, ...]], str]], ...]] = (
    (String, (Texts, "text[]")),
    (Integer, (Numbers, "bigint[]")),
    (LargeBinary, (Blobs, "bytea[]")),
    (Boolean, (Switches, "boolean[]")),
)


class _ArrayDumper(Dumper):
    """``element`` is the server's number for the type of one value."""

    format = pq.Format.BINARY
    element: ClassVar[int]

    def dump(self, obj: Any) -> Buffer:
        parts = [_NULL if value is None else self.one(value) for value in obj]
        return _HEAD.pack(1, 1, self.element, len(parts), 1) + b"".join(parts)

    def one(self, value: Any) -> bytes:
        """A value in the server's binary format, behind its length."""
        raise NotImplementedError


class _TextsDumper(_ArrayDumper):
    oid, element = 1009, 25

    def one(self, value: Any) -> bytes:
        if "\0" in value:
            # What psycopg says of a single one.
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        data: bytes = value.encode()
        return _LENGTH.pack(len(data)) + data


class _NumbersDumper(_ArrayDumper):
    oid, element = 1016, 20

    def one(self, value: Any) -> bytes:
        return _INT8.pack(8, value)


class _BlobsDumper(_ArrayDumper):
    oid, element = 1001, 17

    def one(self, value: Any) -> bytes:
        data: bytes = value
        return _LENGTH.pack(len(data)) + data


class _SwitchesDumper(_ArrayDumper):
    oid, element = 1000, 16

    def one(self, value: Any) -> bytes:
        return _TRUE if value else _FALSE


DUMPERS: Final[tuple[tuple[type[tuple[Any, ...]], type[Dumper]], ...]] = (
    (Texts, _TextsDumper),
    (Numbers, _NumbersDumper),
    (Blobs, _BlobsDumper),
    (Switches, _SwitchesDumper),
)
