"""Rows to entities and back, column by column in the order of the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from ..codec import decode_payload, encode_map, encode_payload
from ..core.decision import RUN_CHANGES
from ..core.entities import ABSENT, Event, EventData, Hook, Message, Run, Step
from ..core.values import from_ms, to_ms
from ..errors import BackendError
from .compiled import Row
from .damage import EVENTS, HOOKS, MESSAGES, RUNS, STEPS, UNREADABLE


def ms(value: datetime | None) -> int | None:
    return None if value is None else to_ms(value)


def when(value: int | None) -> datetime | None:
    return None if value is None else from_ms(value)


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def json_of(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def json_of_text(text: str) -> str:
    """As it stands in what ``json_of`` returns."""
    return json.dumps(text, ensure_ascii=True)


def run_values(run: Run) -> dict[str, Any]:
    """Every column of a new run."""
    return {
        "run_id": run.run_id,
        "status": run.status,
        "deployment_id": run.deployment_id,
        "workflow_name": run.workflow_name,
        "spec_version": run.spec_version,
        "execution_context": encode_map(run.execution_context),
        "input": encode_payload(run.input),
        "output": encode_payload(run.output),
        "error": encode_payload(run.error),
        "error_code": run.error_code,
        "attributes": json_of(run.attributes),
        "encryption_public_key": run.encryption_public_key,
        "expired_at": ms(run.expired_at),
        "started_at": ms(run.started_at),
        "completed_at": ms(run.completed_at),
        "created_at": to_ms(run.created_at),
        "updated_at": to_ms(run.updated_at),
        "last_claim_at": None,
    }


def run_changes(run: Run) -> dict[str, Any]:
    """The columns that a decision may change; ``v_`` keeps them apart from the key."""
    values = run_values(run)
    return {f"v_{name}": values[name] for name in RUN_CHANGES} | {"run_id": run.run_id}


def run_of(row: Row) -> Run:
    RUNS.check(row)
    try:
        return Run(
            run_id=row[0],
            status=row[1],
            deployment_id=row[2],
            workflow_name=row[3],
            spec_version=row[4],
            execution_context=_map(row[5]),
            input=decode_payload(row[6]),
            output=decode_payload(row[7]),
            error=decode_payload(row[8]),
            error_code=row[9],
            attributes=_json(row[10]) or {},
            encryption_public_key=row[11],
            expired_at=when(row[12]),
            started_at=when(row[13]),
            completed_at=when(row[14]),
            created_at=from_ms(row[15]),
            updated_at=from_ms(row[16]),
        )
    except UNREADABLE as error:
        raise RUNS.damaged(row, error) from error


def step_values(step: Step) -> tuple[Any, ...]:
    """Every column of a new step, in the order of the table."""
    return (
        step.run_id,
        step.step_id,
        step.step_name,
        step.status,
        encode_payload(step.input),
        encode_payload(step.output),
        encode_payload(step.error),
        step.attempt,
        ms(step.started_at),
        ms(step.completed_at),
        ms(step.retry_after),
        to_ms(step.created_at),
        to_ms(step.updated_at),
        step.spec_version,
    )


def step_changes(step: Step) -> tuple[Any, ...]:
    """The columns of ``STEP_CHANGES``, then the key."""
    return (
        step.status,
        encode_payload(step.output),
        encode_payload(step.error),
        step.attempt,
        ms(step.started_at),
        ms(step.completed_at),
        ms(step.retry_after),
        to_ms(step.updated_at),
        step.run_id,
        step.step_id,
    )


def step_of(row: Row) -> Step:
    STEPS.check(row)
    try:
        return Step(
            run_id=row[0],
            step_id=row[1],
            step_name=row[2],
            status=row[3],
            input=decode_payload(row[4]),
            output=decode_payload(row[5]),
            error=decode_payload(row[6]),
            attempt=row[7],
            started_at=when(row[8]),
            completed_at=when(row[9]),
            retry_after=when(row[10]),
            created_at=from_ms(row[11]),
            updated_at=from_ms(row[12]),
            spec_version=row[13],
        )
    except UNREADABLE as error:
        raise STEPS.damaged(row, error) from error


def event_values(event: Event) -> tuple[Any, ...]:
    """Every column of a new event, in the order of the table."""
    return (
        event.run_id,
        event.position,
        event.event_id,
        event.event_type,
        event.correlation_id,
        event.spec_version,
        encode_map(event.event_data),
        to_ms(event.created_at),
        ms(event.occurred_at),
        event.resume_id,
        event.payload_digest,
        ms(event.due_at),
    )


def event_of(row: Row) -> Event:
    EVENTS.check(row)
    try:
        return Event(
            run_id=row[0],
            position=row[1],
            event_id=row[2],
            event_type=row[3],
            correlation_id=row[4],
            spec_version=row[5],
            event_data=_map(row[6]),
            created_at=from_ms(row[7]),
            occurred_at=when(row[8]),
            resume_id=row[9],
            payload_digest=row[10],
            due_at=when(row[11]),
        )
    except UNREADABLE as error:
        raise EVENTS.damaged(row, error) from error


def hook_values(hook: Hook) -> dict[str, Any]:
    return {
        "run_id": hook.run_id,
        "hook_id": hook.hook_id,
        "token": hook.token,
        "owner_id": hook.owner_id,
        "project_id": hook.project_id,
        "environment": hook.environment,
        "metadata": encode_payload(hook.metadata),
        "created_at": to_ms(hook.created_at),
        "spec_version": hook.spec_version,
        "is_webhook": hook.is_webhook,
        "is_system": hook.is_system,
    }


def hook_of(row: Row) -> Hook:
    HOOKS.check(row)
    try:
        return Hook(
            run_id=row[0],
            hook_id=row[1],
            token=row[2],
            owner_id=row[3],
            project_id=row[4],
            environment=row[5],
            metadata=decode_payload(row[6]),
            created_at=from_ms(row[7]),
            spec_version=row[8],
            is_webhook=_flag(row[9]),
            is_system=_flag(row[10]),
        )
    except UNREADABLE as error:
        raise HOOKS.damaged(row, error) from error


def message_of(row: Row) -> Message:
    MESSAGES.check(row)
    try:
        return Message(
            message_id=row[0],
            queue_name=row[1],
            payload=row[2],
            status=row[3],
            attempt=row[4],
            max_attempts=row[5],
            deliveries=row[6],
            idempotency_key=row[7],
            available_at=from_ms(row[8]),
            lease_token=row[9],
            leased_until=when(row[10]),
            claimed_at=when(row[11]),
            run_id=row[12],
            step_id=row[13],
            is_wake_up=bool(row[14]),
            deployment_id=row[15],
            headers=_json(row[16]),
            last_error=_json(row[17]),
            created_at=from_ms(row[18]),
            updated_at=from_ms(row[19]),
            processed_at=when(row[20]),
        )
    except UNREADABLE as error:
        raise MESSAGES.damaged(row, error) from error


def claimed_message_of(row: Row) -> Message:
    """``message_of`` for a worker: what cannot be read is left out, and ``damage`` says so."""
    try:
        return message_of(row)
    except BackendError as error:
        damage = str(error)
    readable = MESSAGES.readable(row)
    for column in (_HEADERS, _LAST_ERROR):
        try:
            _json(readable[column])
        except ValueError:
            readable[column] = None
    for column in _TIMES:
        try:
            when(readable[column])
        except OverflowError:
            readable[column] = 0
    # Else the database would refuse the row that says what became of it.
    readable[_ATTEMPT] = max(1, readable[_ATTEMPT])
    return replace(message_of(readable), damage=damage)


_ATTEMPT, _HEADERS, _LAST_ERROR = 4, 16, 17
_TIMES = (8, 10, 11, 18, 19, 20)


def _map(data: bytes | None) -> EventData | None:
    value = decode_payload(data)
    if value is ABSENT:
        return None
    if not isinstance(value, dict):
        raise ValueError("a map was expected")
    return cast("EventData", value)


def _json(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("a JSON object was expected")
    return cast("dict[str, Any]", value)
