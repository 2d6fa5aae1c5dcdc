"""Entities from their events: the oracle for stored rows, and the only form of a wait.

Written without the rules of ``rules_*``, from the effects that spec 2.4 to 2.9 give, so that a
test or a check can hold the two against each other. A log is given in position order.

Out of reach, because no event says so: ``expired_at``, and the cancel of a legacy run (spec 2.10).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, cast

from .attributes import changes_of, merged
from .entities import ABSENT, Event, EventData, Hook, Run, RunStatus, Step, StepStatus, Wait
from .rules import Owner

_RUN_ENDS: Final[Mapping[str, RunStatus]] = {
    "run_completed": "completed",
    "run_failed": "failed",
    "run_cancelled": "cancelled",
}
_STEP_ENDS: Final[Mapping[str, StepStatus]] = {
    "step_completed": "completed",
    "step_failed": "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What must be stored for one log: the rows, each map by id.

    Hooks and waits are those that are still there: none once the run has ended.
    """

    run: Run | None = None
    steps: Mapping[str, Step] = field(default_factory=dict[str, Step])
    hooks: Mapping[str, Hook] = field(default_factory=dict[str, Hook])
    waits: Mapping[str, Wait] = field(default_factory=dict[str, Wait])


def fold(events: Iterable[Event], owner: Owner | None = None) -> Folded:
    """The rows that a run's events make. ``owner`` is what the World stamps on hooks."""
    log = tuple(events)
    return Folded(
        run=run_of(log),
        steps=steps_of(log),
        hooks=hooks_of(log, owner or Owner()),
        waits=waits_of(log),
    )


def run_of(events: Iterable[Event]) -> Run | None:
    """The run, or None before its ``run_created``."""
    run: Run | None = None
    for event in events:
        if run is None:
            run = _opened(event) if event.event_type == "run_created" else None
        elif not run.is_final:
            run = _run_after(run, event)
    return run


def steps_of(events: Iterable[Event]) -> dict[str, Step]:
    """The steps by id, in the order of their creation."""
    steps: dict[str, Step] = {}
    for event in events:
        step_id = event.correlation_id or ""
        if event.event_type == "step_created":
            steps.setdefault(step_id, _new_step(event))
        elif step_id in steps and not steps[step_id].is_final:
            steps[step_id] = _step_after(steps[step_id], event)
    return steps


def hooks_of(events: Iterable[Event], owner: Owner) -> dict[str, Hook]:
    """The live hooks by id."""
    hooks: dict[str, Hook] = {}
    for event in events:
        if event.event_type in _RUN_ENDS:
            return {}
        if event.event_type == "hook_created":
            hooks[event.correlation_id or ""] = _new_hook(event, owner)
        elif event.event_type == "hook_disposed":
            hooks.pop(event.correlation_id or "", None)
    return hooks


def waits_of(events: Iterable[Event]) -> dict[str, Wait]:
    """The waits by id, completed ones included; none once the run has ended."""
    created: dict[str, Event] = {}
    completed: dict[str, Event] = {}
    for event in events:
        if event.event_type in _RUN_ENDS:
            return {}
        if event.event_type == "wait_created":
            created.setdefault(event.correlation_id or "", event)
        elif event.event_type == "wait_completed":
            completed.setdefault(event.correlation_id or "", event)
    return {wait_id: wait_of(event, completed.get(wait_id)) for wait_id, event in created.items()}


def due_times_of(events: Iterable[Event]) -> dict[int, datetime]:
    """The ``due_at`` that must be stored, by position: those of the waits that are still open."""
    log = tuple(events)
    is_open = {wait.wait_id for wait in waits_of(log).values() if wait.status == "waiting"}
    found = {
        event.position: _time(event, "resumeAt")
        for event in log
        if event.event_type == "wait_created" and event.correlation_id in is_open
    }
    return {position: time for position, time in found.items() if time is not None}


def wait_of(created: Event, completed: Event | None) -> Wait:
    """The wait of a ``wait_created`` row and, if there is one, its ``wait_completed`` row."""
    return Wait(
        run_id=created.run_id,
        wait_id=created.correlation_id or "",
        status="waiting" if completed is None else "completed",
        resume_at=_time(created, "resumeAt"),
        completed_at=None if completed is None else completed.created_at,
        created_at=created.created_at,
        updated_at=(completed or created).created_at,
        spec_version=created.spec_version,
    )


def _opened(event: Event) -> Run:
    data: Mapping[str, Any] = _data(event)
    return Run(
        run_id=event.run_id,
        status="pending",
        deployment_id=data["deploymentId"],
        workflow_name=data["workflowName"],
        spec_version=event.spec_version,
        execution_context=data.get("executionContext"),
        input=data["input"],
        attributes=merged({}, changes_of(data.get("attributes")), reserved=True),
        encryption_public_key=data.get("encryptionPublicKey"),
        created_at=event.created_at,
        updated_at=event.created_at,
    )


def _run_after(run: Run, event: Event) -> Run:
    data, now = _data(event), event.created_at
    match event.event_type:
        case "run_started":
            if run.status == "running":
                return run  # only foreign logs have a second one
            return replace(run, status="running", started_at=now, updated_at=now)
        case "attr_set":
            attributes = merged(run.attributes, changes_of(data.get("changes")), reserved=True)
            return replace(run, attributes=attributes, updated_at=now)
        case "run_completed" | "run_failed" | "run_cancelled":
            return replace(
                run,
                status=_RUN_ENDS[event.event_type],
                output=data.get("output", ABSENT),
                error=data.get("error", ABSENT),
                error_code=cast("str | None", data.get("errorCode")),
                completed_at=now,
                updated_at=now,
            )
        case _:
            return run


def _new_step(event: Event) -> Step:
    data: Mapping[str, Any] = _data(event)
    return Step(
        run_id=event.run_id,
        step_id=event.correlation_id or "",
        step_name=data["stepName"],
        status="pending",
        input=data["input"],
        created_at=event.created_at,
        updated_at=event.created_at,
        spec_version=event.spec_version,
    )


def _step_after(step: Step, event: Event) -> Step:
    data, now = _data(event), event.created_at
    match event.event_type:
        case "step_started":
            return replace(
                step,
                status="running",
                attempt=step.attempt + 1,
                started_at=step.started_at or now,
                retry_after=None,
                updated_at=now,
            )
        case "step_retrying":
            return replace(
                step,
                status="pending",
                error=data.get("error", ABSENT),
                retry_after=_time(event, "retryAfter"),
                updated_at=now,
            )
        case "step_completed" | "step_failed":
            return replace(
                step,
                status=_STEP_ENDS[event.event_type],
                output=data.get("result", ABSENT),
                error=data.get("error", step.error),
                completed_at=now,
                updated_at=now,
            )
        case _:
            return step


def _new_hook(event: Event, owner: Owner) -> Hook:
    data: Mapping[str, Any] = _data(event)
    return Hook(
        run_id=event.run_id,
        hook_id=event.correlation_id or "",
        token=data["token"],
        owner_id=owner.owner_id,
        project_id=owner.project_id,
        environment=owner.environment,
        metadata=data.get("metadata", ABSENT),
        created_at=event.created_at,
        spec_version=event.spec_version,
        is_webhook=data.get("isWebhook"),
        is_system=data.get("isSystem"),
    )


def _data(event: Event) -> EventData:
    return event.event_data or {}


def _time(event: Event, key: str) -> datetime | None:
    return cast("datetime | None", _data(event).get(key))
