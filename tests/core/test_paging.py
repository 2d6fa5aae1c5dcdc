"""Limits, order keys and cursors of lists (spec 3.2)."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_world.core.entities import Event, Hook, Run, Step, Wait
from workflow_world.core.paging import (
    DEFAULT_LIMITS,
    Query,
    clamp_limit,
    decode_cursor,
    digest_of,
    encode_cursor,
    key_of,
    page_of,
)
from workflow_world.core.values import from_ms
from workflow_world.errors import InvalidCursorError
from workflow_world.memory.listing import page as select
from workflow_world.testing.clock import START

Row = Run | Step | Event | Hook | Wait


def make_row(kind: str, run_id: str, name: str, ms: int, position: int) -> Row:
    times: dict[str, Any] = {"created_at": from_ms(ms)}
    if kind == "events":
        return Event(
            run_id=run_id,
            event_id=f"evnt_{position}",
            position=position,
            event_type="attr_set",
            correlation_id="c",
            spec_version=5,
            **times,
        )
    if kind == "hooks":
        return Hook(
            run_id=run_id,
            hook_id=name,
            token=run_id + name,
            owner_id="",
            project_id="",
            environment="",
            **times,
        )
    times["updated_at"] = START
    if kind == "runs":
        return Run(run_id=name, status="pending", deployment_id="d", workflow_name="w", **times)
    if kind == "steps":
        return Step(run_id=run_id, step_id=name, step_name="s", status="pending", **times)
    return Wait(run_id=run_id, wait_id=name, status="waiting", resume_at=START, **times)


def queries() -> list[Query]:
    of_run = {"run_id": "r1"}
    return [
        Query(kind="runs"),
        Query(kind="steps", **of_run),
        Query(kind="events", **of_run),
        Query(kind="events", correlation_id="c"),
        Query(kind="hooks"),
        Query(kind="waits"),
    ]


def walk(query: Query, rows: list[Row], size: int) -> list[Row]:
    """All pages of a list, one cursor after the other."""
    seen: list[Row] = []
    cursor: str | None = None
    while True:
        after = None if cursor is None else decode_cursor(query, cursor)
        asked = replace(query, limit=size, after=after)
        found = select(replace(asked, limit=size + 1), rows)  # type: ignore[type-var]
        page = page_of(asked, found, cursor, lambda row: key_of(query, row))
        assert page.has_more == (len(found) > size)
        seen += page.data
        if not page.has_more:
            return seen
        assert page.cursor is not None
        cursor = page.cursor


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("number", range(6))
def test_pages_of_any_size_join_to_the_whole(
    number: int, descending: bool, data: st.DataObject
) -> None:
    """B103, B104: many rows of one millisecond included."""
    query = replace(queries()[number], descending=descending)
    spots = data.draw(
        st.lists(
            st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from("abcdeé😀\uffff")),
            unique_by=lambda spot: spot[1] if query.kind == "runs" else spot,
        )
    )
    times = data.draw(st.lists(st.integers(0, 2), min_size=len(spots), max_size=len(spots)))
    rows = [
        make_row(query.kind, run_id, name, ms, position)
        for position, ((run_id, name), ms) in enumerate(zip(spots, times, strict=True), 1)
    ]
    if query.kind in ("steps", "events") and query.run_id is not None:
        rows = [row for row in rows if row.run_id == query.run_id]
    keys = [key_of(query, row) for row in rows]
    assert len(set(keys)) == len(rows)
    whole = [row for _, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0])]
    if descending:
        whole.reverse()
    size = data.draw(st.integers(1, len(rows) + 2))
    assert walk(query, rows, size) == whole


def test_rows_that_come_and_go_do_not_disturb_a_walk() -> None:
    """B107."""
    query = Query(kind="runs", limit=2)
    rows = [make_row("runs", "", name, 10, 1) for name in "bdfh"]
    first = select(replace(query, limit=3), rows)  # type: ignore[type-var]
    page = page_of(query, first, None, lambda row: key_of(query, row))
    assert page.cursor is not None
    changed = [make_row("runs", "", name, 10, 1) for name in "abeh"]
    after = decode_cursor(query, page.cursor)
    rest = select(replace(query, after=after), changed)  # type: ignore[type-var]
    assert [row.run_id for row in rest] == ["e", "h"]


def test_the_cursor_at_the_end() -> None:
    """B106: an event list keeps one, an empty page echoes it; other lists have none."""
    events = Query(kind="events", run_id="r1", limit=5)
    rows = [make_row("events", "r1", "", 1, position) for position in (1, 2, 3)]
    key = lambda row: key_of(events, row)  # noqa: E731
    end = page_of(events, rows, None, key)
    assert not end.has_more
    assert end.cursor is not None
    assert decode_cursor(events, end.cursor) == (3,)
    assert page_of(events, [], end.cursor, key).cursor == end.cursor
    assert page_of(events, [], None, key).cursor is None
    runs = Query(kind="runs", limit=5)
    page = page_of(runs, [make_row("runs", "", "a", 1, 1)], "any", lambda row: key_of(runs, row))
    assert page.cursor is None


@pytest.mark.parametrize("query", queries())
def test_a_cursor_belongs_to_one_list(query: Query) -> None:
    """Spec 3.2: another operation, filter or order refuses it; another limit does not."""
    cursor = encode_cursor(query, key_of(query, make_row(query.kind, "r1", "a", 5, 7)))
    decode_cursor(replace(query, limit=3), cursor)
    others = [other for other in queries() if other != query]
    others += [
        replace(query, descending=True),
        replace(query, run_id="other"),
        replace(query, correlation_id="other"),
        replace(query, statuses=("pending",)),
        replace(query, event_types=("noop",)),
        replace(query, workflow_name="w"),
        replace(query, deployment_id="d"),
        replace(query, created_after=START),
        replace(query, created_before=START),
        replace(query, attributes=(("k", "v"),)),
    ]
    for other in others:
        with pytest.raises(InvalidCursorError):
            decode_cursor(other, cursor)


def test_the_order_of_filter_values_does_not_matter() -> None:
    one = Query(kind="runs", statuses=("failed", "pending"), attributes=(("a", "1"), ("b", "2")))
    other = replace(one, statuses=("pending", "failed"), attributes=(("b", "2"), ("a", "1")))
    assert digest_of(one) == digest_of(other)


def crafted(query: Query, *key: object) -> str:
    text = json.dumps([digest_of(query), *key])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "key",
    [
        (),
        (5,),
        ("5", "a"),
        (5, 6),
        (5.0, "a"),
        (True, "a"),
        (None, "a"),
        (5, "a", "b"),
        ([], {}),
        (10**30, "a"),
        (-(10**30), "a"),
        (5, "\ud800"),
        (5, "a\0b"),
    ],
)
def test_a_cursor_with_a_wrong_key_is_refused(key: tuple[object, ...]) -> None:
    query = Query(kind="runs")
    with pytest.raises(InvalidCursorError):
        decode_cursor(query, crafted(query, *key))


@pytest.mark.parametrize("text", ["", " ", "é", "a", "====", "bnVsbA", "e30", "W10", "W" * 99_999])
def test_a_malformed_cursor_is_refused(text: str) -> None:
    """B108."""
    for query in queries():
        with pytest.raises(InvalidCursorError):
            decode_cursor(query, text)


@given(st.text())
def test_any_text_is_refused_with_a_typed_error(text: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor(Query(kind="runs"), text)


@given(st.integers(-(2**53), 2**53), st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_cursors_carry_their_key(ms: int, run_id: str) -> None:
    query = Query(kind="runs", workflow_name="w", created_after=START - timedelta(days=1))
    assert decode_cursor(query, encode_cursor(query, (ms, run_id))) == (ms, run_id)


@pytest.mark.parametrize(
    ("limit", "effective"), [(None, 100), (0, 100), (-3, 100), (1, 1), (1000, 1000), (1001, 1000)]
)
def test_limits(limit: int | None, effective: int) -> None:
    """B105."""
    assert clamp_limit(limit, 100) == effective
    assert DEFAULT_LIMITS["events"] == 1000
