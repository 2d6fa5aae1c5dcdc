"""Rules of streams: where a reader starts, and the cursor of snapshot pages (spec 5.3, 5.6)."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final, cast

from .entities import StreamInfo

PAGE_CHUNKS: Final = 100
PAGE_BYTES: Final = 1 << 20
DEFAULT_PAGE_LIMIT: Final = 100


def start_of(start_index: int | None, info: StreamInfo | None) -> int:
    """The first index a live reader yields.

    A negative index counts back from the end as ``info`` shows it when the read begins.
    """
    if start_index is None or start_index >= 0:
        return start_index or 0
    count = 0 if info is None else info.tail_index + 1
    return max(0, count + start_index)


def encode_chunk_cursor(next_index: int) -> str:
    return base64.b64encode(json.dumps({"i": next_index}).encode()).decode()


def decode_chunk_cursor(cursor: str | None) -> int:
    """The index to go on from; an unreadable cursor starts again at 0."""
    if not cursor:
        return 0
    try:
        value: object = json.loads(base64.b64decode(cursor, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        return 0
    index = cast("dict[str, object]", value).get("i") if isinstance(value, dict) else None
    return index if isinstance(index, int) and index is not True and index >= 0 else 0
