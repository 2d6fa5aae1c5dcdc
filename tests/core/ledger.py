"""A World without a World: events go through the shape check and the rules straight into rows.

After every write the rows are held against the fold of the log, so each test that sends an event
also proves that the two say the same.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from workflow_world.core.attributes import MAX_ATTRIBUTES
from workflow_world.core.decide import intent_for
from workflow_world.core.decision import Refusal
from workflow_world.core.entities import Event, EventResult, Hook, Run, Step
from workflow_world.core.events import NewEvent, checked
from workflow_world.core.fold import due_times_of, fold
from workflow_world.core.rules import Owner
from workflow_world.core.rules_attribute import check_shape
from workflow_world.memory import MemoryDatabase
from workflow_world.memory.apply import carry_out
from workflow_world.testing.clock import START

RUN = "wrun_1"
OWNER = Owner(owner_id="me", project_id="here", environment="test")
CREATION: dict[str, object] = {"deploymentId": "dpl", "workflowName": "greet", "input": b"in"}

DATA: dict[str, dict[str, object]] = {
    "run_created": CREATION,
    "run_completed": {"output": b"out"},
    "run_failed": {"error": b"bad", "errorCode": "BAD"},
    "run_cancelled": {"cancelReason": "enough"},
    "attr_set": {"changes": [{"key": "k", "value": "v"}], "writer": {"type": "workflow"}},
    "step_created": {"stepName": "work", "input": b"step in"},
    "step_retrying": {"error": b"again"},
    "step_completed": {"result": b"step out"},
    "step_failed": {"error": b"step bad"},
    "hook_created": {"token": "tok"},
    "hook_received": {"payload": b"payload"},
    "wait_created": {"resumeAt": START + timedelta(hours=1)},
}
"""Event data that is enough for each type."""


class Ledger:
    """Rows of several runs, changed by events only. ``now`` is moved by the test."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.now = START

    def send(
        self,
        event_type: str,
        correlation_id: str | None = None,
        data: dict[str, Any] | None = None,
        *,
        run_id: str | None = RUN,
        spec_version: int = 5,
        **rest: Any,
    ) -> EventResult:
        """Propose an event; ``data`` None takes what is enough for its type. Raises refusals."""
        event = checked(
            run_id,
            NewEvent(
                event_type=event_type,
                correlation_id=correlation_id,
                spec_version=spec_version,
                event_data=DATA.get(event_type) if data is None else data,
                **rest,
            ),
        )
        if event_type == "attr_set":
            check_shape(event)
        assert run_id is not None
        before = self.rows()
        with self.database.transaction() as change:
            verdict = carry_out(
                change, self.database, intent_for(run_id, event, owner=OWNER), self.now
            )
        if isinstance(verdict, Refusal):
            assert self.rows() == before
            raise verdict.error
        if not verdict.writes:
            assert self.rows() == before
        self._check(run_id, verdict.result)
        return verdict.result

    def start(self, run_id: str = RUN, **rest: Any) -> None:
        """A running run."""
        self.send("run_created", run_id=run_id, **rest)
        self.send("run_started", run_id=run_id)

    def run(self, run_id: str = RUN) -> Run | None:
        return self.database.runs.get(run_id)

    def step(self, step_id: str, run_id: str = RUN) -> Step | None:
        return self.database.steps.get((run_id, step_id))

    def hook(self, hook_id: str, run_id: str = RUN) -> Hook | None:
        return self.database.hooks.get((run_id, hook_id))

    def log(self, run_id: str = RUN) -> list[Event]:
        return list(self.database.log.get(run_id, {}).values())

    def types(self, run_id: str = RUN) -> list[str]:
        return [event.event_type for event in self.log(run_id)]

    def rows(self) -> tuple[object, ...]:
        """Everything that is stored, to compare."""
        database = self.database
        log = {run_id: dict(events) for run_id, events in database.log.items() if events}
        return dict(database.runs), dict(database.steps), dict(database.hooks), log

    def plant(self, row: Run | Step, **changes: Any) -> None:
        """Change a stored row behind the rules' back."""
        row = replace(row, **changes)
        if isinstance(row, Run):
            self.database.runs[row.run_id] = row
        else:
            self.database.steps[row.run_id, row.step_id] = row

    def _check(self, run_id: str, result: EventResult) -> None:
        log, run = self.log(run_id), self.run(run_id)
        assert run is not None
        assert [event.position for event in log] == list(range(1, len(log) + 1))
        ids = [event.event_id for event in log]
        assert ids == sorted(set(ids))
        times = [event.created_at for event in log]
        assert times == sorted(times)
        assert len(run.attributes) <= MAX_ATTRIBUTES
        for entity, stored in (
            (result.run, run),
            (result.step, result.step and self.step(result.step.step_id, run_id)),
            (result.hook, result.hook and self.hook(result.hook.hook_id, run_id)),
            (result.event, result.event and log[result.event.position - 1]),
        ):
            assert entity is None or entity == stored
        if (run.spec_version or 1) > 1 and run.expired_at is None:
            assert_is_fold(self.database, run_id)


def assert_is_fold(database: MemoryDatabase, run_id: str) -> None:
    """The rows of a run are exactly what its log says."""
    log = list(database.log[run_id].values())
    folded = fold(log, OWNER)
    assert folded.run == database.runs[run_id], _difference(folded.run, database.runs[run_id])
    assert folded.steps == _of_run(database.steps, run_id)
    assert folded.hooks == _of_run(database.hooks, run_id)
    assert due_times_of(log) == {event.position: event.due_at for event in log if event.due_at}


def _of_run(table: dict[tuple[str, str], Any], run_id: str) -> dict[str, Any]:
    return {entity_id: row for (owner, entity_id), row in table.items() if owner == run_id}


def _difference(one: Any, other: Any) -> list[tuple[str, object, object]]:
    names = [field.name for field in fields(other)]
    pairs = [(name, getattr(one, name, None), getattr(other, name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]
