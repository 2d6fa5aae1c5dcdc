"""Our records -> the SDK's models, and the SDK's events -> ours.

The SDK's models hold bytes where ours hold any value. A stored payload that does not fit raises a
``WorldError`` with code ``UNREPRESENTABLE`` that names run and field; ``world.runs``,
``world.events`` and the others still read it (spec 1.8). Payloads are not copied: like a record, a
model is for reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import pydantic
from vercel.workflow._internal import world as w

from ..core.entities import ABSENT, Event, Hook, Run, Step
from ..core.events import NewEvent
from ..errors import WorldError

M = TypeVar("M")

_EVENT_BYTES: Final[Mapping[str, str]] = {
    "run_created": "input",
    "run_completed": "output",
    "step_created": "input",
    "hook_created": "metadata",
    "hook_received": "payload",
}
"""Event type -> the payload that its model holds as bytes."""

# Which part of a pydantic location names the field: a tagged union puts its tag first.
_FIELD: Final = slice(0, 1)
_FIELD_BEHIND_TAG: Final = slice(1, 2)
_DATA_FIELD_BEHIND_TAG: Final = slice(1, 3)


def to_run(run: Run) -> w.WorkflowRun:
    """Raises: WorldError ``UNREPRESENTABLE``."""
    where = f"run {run.run_id!r}"
    wire: dict[str, Any] = {
        "runId": run.run_id,
        "status": run.status,
        "deploymentId": run.deployment_id,
        "workflowName": run.workflow_name,
        "specVersion": run.spec_version,
        "executionContext": run.execution_context,
        "input": _present(run.input),  # bytes or text
        "output": _as_bytes(run.output, where, "output"),
        "error": _present(run.error),
        "errorCode": run.error_code,
        "attributes": run.attributes,
        "encryptionPublicKey": run.encryption_public_key,
        "expiredAt": run.expired_at,
        "startedAt": run.started_at,
        "completedAt": run.completed_at,
        "createdAt": run.created_at,
        "updatedAt": run.updated_at,
    }
    return _validated(w.WorkflowRunAdaptor.from_wire, wire, where, _FIELD_BEHIND_TAG)


def to_step(step: Step) -> w.WorkflowStep:
    """Raises: WorldError ``UNREPRESENTABLE``."""
    where = f"step {step.step_id!r} of run {step.run_id!r}"
    wire: dict[str, Any] = {
        "runId": step.run_id,
        "stepId": step.step_id,
        "stepName": step.step_name,
        "status": step.status,
        "input": _as_bytes(step.input, where, "input"),
        "output": _as_bytes(step.output, where, "output"),
        "error": _present(step.error),
        "attempt": step.attempt,
        "startedAt": step.started_at,
        "completedAt": step.completed_at,
        "createdAt": step.created_at,
        "updatedAt": step.updated_at,
        "retryAfter": step.retry_after,
        "specVersion": step.spec_version,
    }
    return _validated(w.WorkflowStepAdaptor.from_wire, wire, where, _FIELD_BEHIND_TAG)


def to_hook(hook: Hook) -> w.Hook:
    """Raises: WorldError ``UNREPRESENTABLE``."""
    where = f"hook {hook.hook_id!r} of run {hook.run_id!r}"
    wire: dict[str, Any] = {
        "runId": hook.run_id,
        "hookId": hook.hook_id,
        "token": hook.token,
        "ownerId": hook.owner_id,
        "projectId": hook.project_id,
        "environment": hook.environment,
        "metadata": _as_bytes(hook.metadata, where, "metadata"),
        "createdAt": hook.created_at,
        "specVersion": hook.spec_version,
        "isWebhook": hook.is_webhook,
        "isSystem": hook.is_system,
    }
    return _validated(w.Hook.from_wire, wire, where, _FIELD)


def to_event(event: Event) -> w.Event:
    """Raises: WorldError ``UNREPRESENTABLE``."""
    where = f"event {event.event_id!r} of run {event.run_id!r}"
    wire: dict[str, Any] = {
        "eventType": event.event_type,
        "specVersion": event.spec_version,
        # Where the SDK puts what it finds beside the data, which takes it as long as all the rest.
        "server_props": _props(event),
    }
    if event.correlation_id is not None:
        wire["correlationId"] = event.correlation_id
    data = event.event_data
    if data is not None:
        payload = _EVENT_BYTES.get(event.event_type)
        if payload is not None and isinstance(data.get(payload), str):
            raise _unrepresentable(where, f"eventData.{payload}", "text")
        wire["eventData"] = dict(data)
    return _validated(w.EventAdaptor.from_wire, wire, where, _DATA_FIELD_BEHIND_TAG)


def stamped(event: Event, proposed: w.Event) -> w.Event | None:
    """The proposed event with what the World added, where that is what ``to_event`` makes.

    It spares the validation of what the SDK has just made. Only for the events of which there are
    many, and not where storing changes anything, as it does to microseconds and tuples.
    """
    if event.event_type != proposed.event_type or event.spec_version != proposed.spec_version:
        return None
    match proposed:
        case w.StepCreatedEvent():
            is_same = type(proposed.event_data.input) is bytes
        case w.StepStartedEvent():
            is_same = proposed.event_data is None and event.event_data is None
        case w.StepCompletedEvent():
            is_same = type(proposed.event_data.result) is bytes
        case _:
            is_same = False
    if not is_same:
        return None
    return proposed.model_copy(update={"server_props": _props(event)})


def _props(event: Event) -> w.ServerProps:
    wire = {"runId": event.run_id, "eventId": event.event_id, "createdAt": event.created_at}
    if event.resume_id is not None:
        wire["resumeId"] = event.resume_id
    return w.ServerProps.from_wire(wire)


def from_event(event: w.Event) -> NewEvent:
    """An event as the SDK proposes it. Absent keys stay absent, a null attribute stays null."""
    data: pydantic.BaseModel | None = getattr(event, "event_data", None)
    resume = event._queue_input if isinstance(event, w.HookReceivedEvent) else None  # pyright: ignore[reportPrivateUsage]
    return NewEvent(
        event_type=event.event_type,
        correlation_id=event.correlation_id,
        spec_version=event.spec_version,
        event_data=None if data is None else data.model_dump(),
        resume_id=None if resume is None else resume.resume_id,
        payload_digest=None if resume is None else resume.payload_digest,
        occurred_at=None if resume is None else resume.occurred_at(),
    )


def _present(value: object) -> object:
    return None if value is ABSENT else value


def _as_bytes(value: object, where: str, field: str) -> object:
    """Text would become bytes without a word; everything else that is wrong, pydantic refuses."""
    if isinstance(value, str):
        raise _unrepresentable(where, field, "text")
    return _present(value)


def _validated(convert: Callable[[Any], M], wire: Mapping[str, Any], where: str, field: slice) -> M:
    try:
        return convert(wire)
    except pydantic.ValidationError as error:
        # Only the place and the kind of the first problem: the error's text quotes the payload.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"][field])) or "its type"
        raise _unrepresentable(where, name, first["type"]) from None


def _unrepresentable(where: str, field: str, kind: str) -> WorldError:
    return WorldError(
        f"The SDK's models cannot hold {field} of {where} ({kind}); read it through the World",
        status=500,
        code="UNREPRESENTABLE",
    )
