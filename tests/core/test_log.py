"""Ids, positions and times of new rows behind rows of any origin (spec 2.2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core import log
from workflow_world.core.entities import Event
from workflow_world.core.events import NewEvent
from workflow_world.core.ulid import encode_ulid, ulid_time
from workflow_world.core.values import to_ms
from workflow_world.testing.clock import START

NEW = NewEvent(event_type="step_started", correlation_id="s", event_data={"a": 1})
LAST = Event(
    run_id="r",
    event_id="",
    position=1,
    event_type="run_created",
    spec_version=5,
    created_at=START,
)


def test_the_first_row() -> None:
    event = log.append("r", 5, None, START, NEW)
    assert (event.position, event.created_at, event.event_data) == (1, START, {"a": 1})
    assert ulid_time(event.event_id.removeprefix("evnt_")) == to_ms(START)


@given(
    st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=30),
    st.sampled_from([None, 1, 2, 5, 6, 7]),
)
def test_ids_rise_and_times_never_fall(steps: list[int], spec_version: int | None) -> None:
    last: Event | None = None
    now = START
    for step in steps:
        now += timedelta(milliseconds=step)
        event = log.append("r", spec_version, last, now, NEW)
        if last is not None:
            assert event.position == last.position + 1
            assert event.event_id > last.event_id
            assert event.created_at >= last.created_at
        assert event.created_at >= now
        last = event


@given(st.integers(0, 10**6), st.integers(0, (1 << 80) - 1))
def test_a_foreign_id_ahead_of_the_clock_is_stepped_over(ahead: int, tail: int) -> None:
    foreign = f"evnt_{encode_ulid(to_ms(START) + ahead, tail)}"
    last = replace(LAST, event_id=foreign)
    first = log.append("r", 5, last, START, NEW)
    second = log.append("r", 5, first, START, NEW)
    assert foreign < first.event_id < second.event_id


@pytest.mark.parametrize("foreign", ["evnt_" + "1".zfill(26), "wevt_" + encode_ulid(5, 5), "odd"])
def test_rows_behind_other_kinds_of_ids(foreign: str) -> None:
    """Slot ids, the other prefix, and anything else: the new id is one of ours."""
    event = log.append("r", 5, replace(LAST, event_id=foreign), START, NEW)
    assert event.position == 2
    assert ulid_time(event.event_id.removeprefix("evnt_")) is not None


def test_ids_of_two_runs_differ() -> None:
    one, two = (log.append(run_id, 5, None, START, NEW) for run_id in ("r1", "r2"))
    assert one.event_id != two.event_id
    assert log.append("r1", 5, None, START, NEW) == one


def test_slot_ids() -> None:
    event = log.append("r", 6, replace(LAST, position=41), START, NEW)
    assert event.event_id == "evnt_00000000000000000000000042"
