"""The oracle: what a run's rows must be, worked out from its log alone (spec 2.5 to 2.9).

Written apart from the rules of the core, so that the two can disagree.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...core.entities import ABSENT, Event, Hook, Run, Step, Wait
from .helpers import ENDINGS, State


def replayed(events: Sequence[Event]) -> State:
    """The state after a log. Hooks get the default owner; legacy logs are not understood."""
    run: Run | None = None
    steps: dict[str, Step] = {}
    hooks: dict[str, Hook] = {}
    waits: dict[str, Wait] = {}
    for event in events:
        group = event.event_type.partition("_")[0]
        if group in ("run", "attr"):
            run = _run(run, event)
            if run.status in ENDINGS:
                hooks, waits = {}, {}
        elif group == "step":
            _step(steps, event)
        elif group == "hook":
            _hook(hooks, event)
        elif group == "wait":
            _wait(waits, event)
    return State(
        run=run,
        steps=sorted(steps.values(), key=lambda step: (step.created_at, step.step_id)),
        hooks=sorted(hooks.values(), key=lambda hook: (hook.created_at, hook.hook_id)),
        waits=sorted(waits.values(), key=lambda wait: (wait.created_at, wait.wait_id)),
        events=[*events],
    )


def check_log(events: Sequence[Event]) -> None:
    """Positions are dense from 1, event ids rise, times never go back (spec 2.2)."""
    assert [event.position for event in events] == [*range(1, len(events) + 1)]
    for before, after in itertools.pairwise(events):
        assert before.event_id < after.event_id
        assert before.created_at <= after.created_at


def _data(event: Event) -> Mapping[str, Any]:
    return event.event_data or {}


def _run(run: Run | None, event: Event) -> Run:
    data, at = _data(event), event.created_at
    if run is None:
        assert event.event_type == "run_created"
        return Run(
            run_id=event.run_id,
            status="pending",
            deployment_id=data["deploymentId"],
            workflow_name=data["workflowName"],
            spec_version=event.spec_version,
            execution_context=data.get("executionContext"),
            input=data["input"],
            attributes=data.get("attributes") or {},
            encryption_public_key=data.get("encryptionPublicKey"),
            created_at=at,
            updated_at=at,
        )
    if event.event_type == "run_started":
        assert run.status == "pending"
        return replace(run, status="running", started_at=run.started_at or at, updated_at=at)
    if event.event_type == "attr_set":
        attributes = dict(run.attributes)
        for change in data["changes"]:
            if change["value"] is None:
                attributes.pop(change["key"], None)
            else:
                attributes[change["key"]] = change["value"]
        return replace(run, attributes=attributes, updated_at=at)
    if run.status == "cancelled":
        assert event.event_type == "run_cancelled"
        return run
    assert run.status not in ENDINGS
    ended = replace(run, completed_at=at, updated_at=at)
    if event.event_type == "run_completed":
        return replace(ended, status="completed", output=data.get("output", ABSENT))
    if event.event_type == "run_failed":
        return replace(
            ended, status="failed", error=data["error"], error_code=data.get("errorCode")
        )
    assert event.event_type == "run_cancelled"
    return replace(ended, status="cancelled")


def _step(steps: dict[str, Step], event: Event) -> None:
    data, at, step_id = _data(event), event.created_at, event.correlation_id
    assert step_id is not None
    if event.event_type == "step_created":
        assert step_id not in steps
        steps[step_id] = Step(
            run_id=event.run_id,
            step_id=step_id,
            step_name=data["stepName"],
            status="pending",
            input=data["input"],
            created_at=at,
            updated_at=at,
            spec_version=event.spec_version,
        )
        return
    step = replace(steps[step_id], updated_at=at)
    assert step.status not in ENDINGS
    if event.event_type == "step_started":
        steps[step_id] = replace(
            step,
            status="running",
            attempt=step.attempt + 1,
            started_at=step.started_at or at,
            retry_after=None,
        )
    elif event.event_type == "step_retrying":
        steps[step_id] = replace(
            step, status="pending", error=data["error"], retry_after=data.get("retryAfter")
        )
    elif event.event_type == "step_completed":
        steps[step_id] = replace(
            step, status="completed", output=data.get("result", ABSENT), completed_at=at
        )
    else:
        assert event.event_type == "step_failed"
        steps[step_id] = replace(step, status="failed", error=data["error"], completed_at=at)


def _hook(hooks: dict[str, Hook], event: Event) -> None:
    data, hook_id = _data(event), event.correlation_id
    assert hook_id is not None
    if event.event_type == "hook_created":
        assert hook_id not in hooks
        hooks[hook_id] = Hook(
            run_id=event.run_id,
            hook_id=hook_id,
            token=data["token"],
            owner_id="default",
            project_id="default",
            environment="development",
            metadata=data.get("metadata", ABSENT),
            created_at=event.created_at,
            spec_version=event.spec_version,
            is_webhook=data.get("isWebhook"),
            is_system=data.get("isSystem"),
        )
    elif event.event_type == "hook_disposed":
        del hooks[hook_id]
    elif event.event_type == "hook_received":
        assert hook_id in hooks
    else:
        assert event.event_type == "hook_conflict"


def _wait(waits: dict[str, Wait], event: Event) -> None:
    wait_id, at = event.correlation_id, event.created_at
    assert wait_id is not None
    if event.event_type == "wait_created":
        assert wait_id not in waits
        waits[wait_id] = Wait(
            run_id=event.run_id,
            wait_id=wait_id,
            status="waiting",
            resume_at=_data(event)["resumeAt"],
            created_at=at,
            updated_at=at,
            spec_version=event.spec_version,
        )
    else:
        assert waits[wait_id].status == "waiting"
        waits[wait_id] = replace(waits[wait_id], status="completed", completed_at=at, updated_at=at)
