"""Run events (spec 2.4, 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from ..errors import InvalidAttributesError, RunNotFoundError
from . import log
from .attributes import changes_of, merged
from .decision import Decision, LastEvent, Refusal, Verdict
from .entities import ABSENT, Event, EventResult, Run, RunStatus
from .events import NewEvent, data_of
from .rules import Given, conflict

_CREATION_KEYS = (
    "deploymentId",
    "workflowName",
    "input",
    "executionContext",
    "attributes",
    "allowReservedAttributes",
    "encryptionPublicKey",
)


def can_create(event: NewEvent) -> bool:
    """Whether a ``run_started`` carries enough to create its run (resilient start, spec 2.5)."""
    data = data_of(event)
    return bool(data.get("deploymentId") and data.get("workflowName")) and "input" in data


def created(given: Given) -> Verdict:
    if given.facts.run is not None:
        return conflict(f"Run {given.run_id!r} already exists")
    opened = _open(given)
    if isinstance(opened, Refusal):
        return opened
    run, event = opened
    return Decision(
        events=(event,), run=run, run_is_new=True, result=EventResult(event=event, run=run)
    )


def started(given: Given) -> Verdict:
    run = given.facts.run
    if run is None:
        return _resilient_start(given)
    if run.is_final:
        return _final(run, "run_started")
    if run.status == "running":
        # The runtime says this on every delivery: it must cost nothing (spec C-9).
        return Decision(result=EventResult(run=run))
    event = given.row(without_data=True)
    return _moved(run, event, replace(run, status="running", started_at=event.created_at))


def completed(given: Given) -> Verdict:
    return _end(given, "completed", output=given.data.get("output", ABSENT))


def failed(given: Given) -> Verdict:
    code = given.data.get("errorCode")
    return _end(
        given,
        "failed",
        error=given.data.get("error", ABSENT),
        error_code=None if code is None else str(code),
    )


def cancelled(given: Given) -> Verdict:
    if given.run.status == "cancelled":
        event = given.row()
        return Decision(events=(event,), result=EventResult(event=event, run=given.run))
    return _end(given, "cancelled")


def _end(
    given: Given,
    status: RunStatus,
    *,
    output: object = ABSENT,
    error: object = ABSENT,
    error_code: str | None = None,
) -> Verdict:
    run = given.run
    if run.is_final:
        return _final(run, given.event.event_type)
    event = given.row()
    ended = replace(
        run,
        status=status,
        output=output,
        error=error,
        error_code=error_code,
        completed_at=event.created_at,
    )
    return _moved(run, event, ended, ended_now=True)


def _moved(before: Run, event: Event, after: Run, *, ended_now: bool = False) -> Decision:
    after = replace(
        after, updated_at=event.created_at, started_at=before.started_at or after.started_at
    )
    return Decision(
        events=(event,), run=after, ended=ended_now, result=EventResult(event=event, run=after)
    )


def _resilient_start(given: Given) -> Verdict:
    if not can_create(given.event):
        return Refusal(error=RunNotFoundError(given.run_id))
    opened = _open(given)
    if isinstance(opened, Refusal):
        return opened
    run, creation = opened
    last = LastEvent.of(creation)
    event = log.append(
        given.run_id, run.spec_version, last, given.now, given.event, without_data=True
    )
    running = replace(
        run, status="running", started_at=event.created_at, updated_at=event.created_at
    )
    return Decision(
        events=(creation, event),
        run=running,
        run_is_new=True,
        result=EventResult(event=event, run=running),
    )


def _open(given: Given) -> tuple[Run, Event] | Refusal:
    """A pending run and its ``run_created`` row, from the event's creation data."""
    data = given.data
    try:
        attributes = merged(
            {},
            changes_of(data.get("attributes")),
            reserved=bool(data.get("allowReservedAttributes")),
        )
    except InvalidAttributesError as error:
        return Refusal(error=error)
    event = log.append(
        given.run_id,
        given.event.spec_version,
        given.facts.last,
        given.now,
        given.event,
        event_type="run_created",
        event_data={key: data[key] for key in _CREATION_KEYS if key in data},
    )
    context, key = data.get("executionContext"), data.get("encryptionPublicKey")
    run = Run(
        run_id=given.run_id,
        status="pending",
        deployment_id=str(data["deploymentId"]),
        workflow_name=str(data["workflowName"]),
        spec_version=given.event.spec_version,
        execution_context=None if context is None else cast("Mapping[str, object]", context),
        input=data["input"],
        attributes=attributes,
        encryption_public_key=None if key is None else str(key),
        created_at=event.created_at,
        updated_at=event.created_at,
    )
    return run, event


def _final(run: Run, event_type: str) -> Refusal:
    return conflict(
        f"Cannot apply {event_type} to run {run.run_id!r} in terminal state {run.status!r}"
    )
