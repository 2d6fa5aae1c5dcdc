"""Step events (spec 2.4, 2.6)."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, cast

from ..errors import StepNotFoundError, TooEarlyError
from .decision import Decision, Refusal, Verdict
from .entities import ABSENT, Event, EventResult, Step
from .rules import Given, conflict, on_final_run
from .values import changed


def created(given: Given) -> Verdict:
    if given.run.is_final:
        return on_final_run(given.run, "create a step")
    if given.facts.step is not None:
        return conflict(f"Step {given.entity_id!r} of run {given.run_id!r} already exists")
    event = given.row()
    step = Step(
        run_id=given.run_id,
        step_id=given.entity_id,
        step_name=str(given.data["stepName"]),
        status="pending",
        input=given.data["input"],
        created_at=event.created_at,
        updated_at=event.created_at,
        spec_version=given.event.spec_version,
    )
    return Decision(
        events=(event,), step=step, step_is_new=True, result=EventResult(event=event, step=step)
    )


def started(given: Given) -> Verdict:
    step = _open_step(given)
    if isinstance(step, Refusal):
        return step
    if step.retry_after is not None and step.retry_after > given.now:
        seconds = max(1, math.ceil((step.retry_after - given.now).total_seconds()))
        return Refusal(
            error=TooEarlyError(
                f"Step {step.step_id!r} may start in {seconds} s: retryAfter is not reached",
                retry_after=seconds,
            )
        )
    event = given.row()
    return _moved(
        event,
        step,
        status="running",
        started_at=step.started_at or event.created_at,
        attempt=step.attempt + 1,
        retry_after=None,
    )


def completed(given: Given) -> Verdict:
    step = _open_step(given)
    if isinstance(step, Refusal):
        return step
    event = given.row()
    output = given.data.get("result", ABSENT)
    return _moved(event, step, status="completed", output=output, completed_at=event.created_at)


def failed(given: Given) -> Verdict:
    step = _open_step(given)
    if isinstance(step, Refusal):
        return step
    event = given.row()
    error = given.data.get("error", ABSENT)
    return _moved(event, step, status="failed", error=error, completed_at=event.created_at)


def retrying(given: Given) -> Verdict:
    step = _open_step(given)
    if isinstance(step, Refusal):
        return step
    data = given.data
    return _moved(
        given.row(),
        step,
        status="pending",
        error=data.get("error", ABSENT),
        retry_after=cast("datetime | None", data.get("retryAfter")),
    )


def _open_step(given: Given) -> Step | Refusal:
    """The step, when an event may still change it."""
    run, step = given.run, given.facts.step
    if run.is_final and (step is None or step.status != "running"):
        return on_final_run(run, f"change step {given.entity_id!r}, which is not running")
    if step is None:
        return Refusal(error=StepNotFoundError(given.entity_id, given.run_id))
    if step.is_final:
        return conflict(
            f"Cannot apply {given.event.event_type} to step {step.step_id!r} "
            f"in terminal state {step.status!r}"
        )
    return step


def _moved(event: Event, step: Step, **changes: Any) -> Decision:
    after = changed(step, updated_at=event.created_at, **changes)
    return Decision(events=(event,), step=after, result=EventResult(event=event, step=after))
