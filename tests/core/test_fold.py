"""The fold on logs that our own rules would not write, and on a whole life."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ledger import OWNER, RUN, Ledger

from workflow_world.core.entities import Event
from workflow_world.core.fold import Folded, due_times_of, fold, waits_of
from workflow_world.testing.clock import START


def life() -> Ledger:
    ledger = Ledger()
    ledger.start()
    for seconds, (event_type, correlation_id) in enumerate(
        [
            ("step_created", "s"),
            ("step_started", "s"),
            ("step_retrying", "s"),
            ("step_started", "s"),
            ("step_completed", "s"),
            ("hook_created", "h"),
            ("hook_received", "h"),
            ("wait_created", "w"),
            ("wait_completed", "w"),
            ("attr_set", "a"),
        ]
    ):
        ledger.now = START + timedelta(seconds=seconds)
        ledger.send(event_type, correlation_id)
    return ledger


def test_a_whole_life() -> None:
    ledger = life()
    folded = fold(ledger.log(), OWNER)
    assert folded.run == ledger.run()
    assert folded.steps == {"s": ledger.step("s")}
    assert folded.hooks == {"h": ledger.hook("h")}
    wait = folded.waits["w"]
    assert (wait.status, wait.resume_at) == ("completed", START + timedelta(hours=1))
    assert (wait.created_at, wait.completed_at) == (
        START + timedelta(seconds=7),
        START + timedelta(seconds=8),
    )
    assert due_times_of(ledger.log()) == {}
    assert due_times_of(ledger.log()[:-2]) == {10: START + timedelta(hours=1)}
    ledger.send("run_completed")
    ended = fold(ledger.log(), OWNER)
    assert (ended.hooks, ended.waits) == ({}, {})
    assert ended.run == ledger.run()
    assert ended.steps == folded.steps


def test_every_prefix_of_a_log_can_be_folded() -> None:
    ledger = life()
    ledger.send("run_failed")
    log = ledger.log()
    assert fold([]) == Folded()
    previous: Folded | None = None
    for length in range(1, len(log) + 1):
        folded = fold(log[:length], OWNER)
        assert folded.run is not None
        assert folded.run.updated_at <= log[length - 1].created_at
        assert folded != previous or log[length - 1].event_type == "hook_received"
        previous = folded


def test_a_log_of_another_writer() -> None:
    """Repeated starts, a repeated outcome, sealed slots and unknown types change nothing."""
    ledger = life()
    ledger.send("run_cancelled")
    log = ledger.log()
    expected = fold(log, OWNER)

    def with_copy_of(event_type: str, place: int) -> list[Event]:
        copy = next(event for event in log if event.event_type == event_type)
        return [*log[:place], replace(copy, created_at=log[-1].created_at), *log[place:]]

    assert fold(with_copy_of("run_started", 5), OWNER) == expected
    assert fold(with_copy_of("step_completed", len(log)), OWNER) == expected
    assert fold(with_copy_of("run_cancelled", len(log)), OWNER) == expected
    for event_type in ("noop", "hook_conflict", "from_the_future"):
        foreign = replace(log[1], event_type=event_type, event_data={"any": "thing"})
        assert fold([*log[:3], foreign, *log[3:]], OWNER) == expected


def test_a_wait_that_was_completed_but_never_created_is_none() -> None:
    """A legacy run may have such a row (spec 2.10)."""
    ledger = Ledger()
    ledger.send("run_created", spec_version=1)
    ledger.send("wait_completed", "w")
    assert waits_of(ledger.log(RUN)) == {}
