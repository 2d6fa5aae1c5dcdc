"""What the write lane knows of runs and steps from its own last writes.

A step's three events arrive one after the other: loading the run and the step again each time
would double the statements. What is kept here is exact, not a guess: ``PRAGMA data_version``,
read under the write lock, changes as soon as any other connection has committed, and then
everything is forgotten. So is it after a rollback.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ..core.decision import Decision, LastEvent
from ..core.entities import ABSENT, Run, Step

MAX_RUNS: Final = 4096
MAX_STEPS: Final = 4096
MAX_STEP_INPUT: Final = 4096
"""Bytes; steps with larger inputs are loaded again, which bounds what is kept."""


class Heads:
    """Used by whoever runs a batch of the write lane: one thread at a time."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._runs: OrderedDict[str, tuple[Run, LastEvent | None]] = OrderedDict()
        self._steps: OrderedDict[tuple[str, str], Step] = OrderedDict()

    def begin(self, version: int) -> bool:
        """A write transaction began and found this data version.

        Returns: whether another connection has committed since the last one.
        """
        if version == self._version:
            return False
        first, self._version = self._version is None, version
        self.forget()
        return not first

    def forget(self) -> None:
        self._runs.clear()
        self._steps.clear()

    def run(self, run_id: str) -> tuple[Run, LastEvent | None] | None:
        """The run without payloads, and the newest event of its log."""
        return self._runs.get(run_id)

    def step(self, run_id: str, step_id: str) -> Step | None:
        return self._steps.get((run_id, step_id))

    def learn(self, run_id: str, run: Run | None, decision: Decision) -> None:
        """A decision was written; ``run`` is what was known of the run before."""
        now = decision.run or run
        if now is None or now.is_final or (decision.run is not None and not decision.events):
            self._runs.pop(run_id, None)
        elif decision.events:
            self._runs[run_id] = (_light_run(now), LastEvent.of(decision.events[-1]))
            self._runs.move_to_end(run_id)
            if len(self._runs) > MAX_RUNS:
                self._runs.popitem(last=False)
        if decision.step is not None:
            self._learn_step(decision.step)

    def _learn_step(self, step: Step) -> None:
        key = (step.run_id, step.step_id)
        if step.is_final or not _is_small(step):
            self._steps.pop(key, None)
            return
        self._steps[key] = step
        self._steps.move_to_end(key)
        if len(self._steps) > MAX_STEPS:
            self._steps.popitem(last=False)


def _is_small(step: Step) -> bool:
    for value in (step.input, step.error):
        if value is not ABSENT and not (type(value) is bytes and len(value) <= MAX_STEP_INPUT):
            return False
    return True


def _light_run(run: Run) -> Run:
    if run.input is ABSENT and run.output is ABSENT:
        return run
    return Run(
        run_id=run.run_id,
        status=run.status,
        deployment_id=run.deployment_id,
        workflow_name=run.workflow_name,
        spec_version=run.spec_version,
        execution_context=run.execution_context,
        error=run.error,
        error_code=run.error_code,
        attributes=run.attributes,
        encryption_public_key=run.encryption_public_key,
        expired_at=run.expired_at,
        started_at=run.started_at,
        completed_at=run.completed_at,
        created_at=run.created_at,
        updated_at=run.updated_at,
    )
