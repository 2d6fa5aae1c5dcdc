"""The demo: its checks can fail, and played for real they hold."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workflow_world import Event
from workflow_world.demo.checks import Evidence, check
from workflow_world.demo.record import Execution, Record

from .conftest import Spawn

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def event(at: float, event_type: str, step: str | None = None) -> Event:
    return Event(
        run_id="wrun_1",
        event_id=f"evnt_{at}",
        position=1,
        event_type=event_type,
        correlation_id=step,
        spec_version=5,
        created_at=datetime.fromtimestamp(NOON + at, UTC),
    )


def ran(at: float, step: str) -> Execution:
    return Execution(at=NOON + at, step_id=step, what=step)


def good() -> Evidence:
    """Step a was finished at the kill (second 2), b cut off, c failed once."""
    return Evidence(
        record=Record(
            executions=[ran(1, "a"), ran(1, "b"), ran(3, "b"), ran(5, "c"), ran(6, "c")],
            events=[
                event(1.5, "step_completed", "a"),
                event(4, "step_completed", "b"),
                event(5.5, "step_retrying", "c"),
                event(7, "step_completed", "c"),
                event(8, "wait_created"),
                event(10, "wait_completed"),
                event(11, "hook_received"),
                event(20, "run_completed"),
            ],
        ),
        steps=("a", "b", "c"),
        interrupted=frozenset({"b"}),
        killed_at=NOON + 2,
        chunks=[(NOON + 12, "x"), (NOON + 13, "y")],
        expected_chunks=("x", "y"),
        result="done",
        expected_result="done",
        slept_s=2,
        stopped_with=0,
    )


def failed(evidence: Evidence) -> list[str]:
    return [each.promise for each in check(evidence) if not each.held]


def with_events(*more: Event, without: str = "") -> Evidence:
    seen = good()
    kept = [each for each in seen.record.events if each.event_type != without]
    return replace(seen, record=Record(seen.record.executions, [*kept, *more]))


def with_executions(*more: Execution) -> Evidence:
    seen = good()
    return replace(seen, record=Record([*seen.record.executions, *more], seen.record.events))


def test_good_evidence_holds() -> None:
    assert failed(good()) == []


@pytest.mark.parametrize(
    ("evidence", "promise"),
    [
        (replace(good(), result="other"), "The result is right"),
        (
            with_events(event(9, "step_completed", "a")),
            "Each step has exactly one recorded outcome",
        ),
        (with_events(event(9, "step_failed", "b")), "Each step has exactly one recorded outcome"),
        (with_executions(ran(9, "a")), "Finished steps were not run again"),
        (with_executions(ran(9, "c")), "Finished steps were not run again"),
        (with_executions(ran(9, "b")), "The step that the kill cut off was run again, once"),
        (with_events(without="wait_completed"), "The sleep was not cut short"),
        (replace(good(), slept_s=2.5), "The sleep was not cut short"),
        (with_events(event(12, "hook_received")), "The hook was received once"),
        (
            replace(good(), expected_chunks=("x", "y", "z")),
            "The stream arrived live, complete and in order",
        ),
        (
            replace(good(), chunks=[(NOON + 13, "y"), (NOON + 14, "x")]),
            "The stream arrived live, complete and in order",
        ),
        (
            replace(good(), chunks=[(NOON + 21, "x"), (NOON + 21, "y")]),
            "The stream arrived live, complete and in order",
        ),
        (with_events(event(21, "run_completed")), "The run ended once"),
        (replace(good(), stopped_with=-9), "The second worker stopped cleanly"),
    ],
)
def test_each_check_can_fail(evidence: Evidence, promise: str) -> None:
    assert failed(evidence) == [promise]


def test_nothing_interrupted_does_not_count_as_proof() -> None:
    seen = replace(good(), interrupted=frozenset())
    assert "The step that the kill cut off was run again, once" in failed(seen)


def test_played_for_real(spawn: Spawn, place: Path) -> None:
    result = spawn("demo", "--dir", "kept")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "\x1b" not in result.stdout
    assert "kill -9" in result.stdout
    assert result.stdout.count("\nok  ") == len(check(good()))
    assert "All of it held" in result.stdout
    assert {path.name for path in (place / "kept").iterdir()} >= {
        "workflow.db",
        "flow.py",
        "executed.log",
        "worker.log",
    }


def test_refuses_a_directory_that_is_in_use(spawn: Spawn, place: Path) -> None:
    (place / "workflow.db").write_text("mine")
    result: subprocess.CompletedProcess[str] = spawn("demo", "--dir", ".")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "has a workflow.db already" in result.stderr
    assert [path.name for path in place.iterdir()] == ["workflow.db"]
    assert (place / "workflow.db").read_text() == "mine"
