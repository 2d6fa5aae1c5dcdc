"""Where a reader of a stream starts, and its snapshot cursors (spec 5.3, 5.6)."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core.chunks import decode_chunk_cursor, encode_chunk_cursor, start_of
from workflow_world.core.entities import StreamInfo


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("start_index", "start"),
    [(None, 0), (0, 0), (3, 3), (5, 5), (9, 9), (-1, 4), (-5, 0), (-6, 0), (-(10**9), 0)],
)
def test_where_a_reader_starts(start_index: int | None, start: int, done: bool) -> None:
    """B173, B174: five chunks; the close counts for nothing."""
    assert start_of(start_index, StreamInfo(tail_index=4, done=done)) == start


@pytest.mark.parametrize("start_index", [None, 0, -1, -9])
def test_an_unknown_stream_starts_at_its_beginning(start_index: int | None) -> None:
    assert start_of(start_index, None) == 0
    assert start_of(start_index, StreamInfo(tail_index=-1, done=False)) == 0


@given(st.integers(0, 2**60))
def test_cursors_carry_the_next_index(index: int) -> None:
    cursor = encode_chunk_cursor(index)
    assert json.loads(base64.b64decode(cursor)) == {"i": index}
    assert decode_chunk_cursor(cursor) == index


def test_a_cursor_of_another_writer() -> None:
    """Spec 5.6: base64 of the JSON ``{"i": n}``, with or without spaces."""
    assert decode_chunk_cursor(base64.b64encode(b'{"i":12}').decode()) == 12


@pytest.mark.parametrize(
    "value", ["[]", "{}", "12", "null", '{"i": -1}', '{"i": "1"}', '{"i": 1.5}', '{"i": true}', "{"]
)
def test_an_unreadable_cursor_starts_again(value: str) -> None:
    """B178."""
    assert decode_chunk_cursor(base64.b64encode(value.encode()).decode()) == 0


@given(st.none() | st.text())
def test_any_text_is_an_index_or_the_beginning(text: str | None) -> None:
    assert decode_chunk_cursor(text) >= 0
