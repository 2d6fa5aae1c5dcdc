"""Hook events and resume ids (spec 2.7, 2.8)."""

from __future__ import annotations

from typing import cast

from ..errors import HookNotFoundError, HookResumeConflictError, RunExpiredError
from .decision import Decision, Refusal, Verdict
from .entities import ABSENT, Event, EventResult, Hook
from .rules import Given, Owner, conflict

__all__ = ["Owner", "converge", "created", "disposed", "received"]


def created(given: Given) -> Verdict:
    run, hook = given.run, given.facts.hook
    if run.is_final:
        # Not a conflict: the SDK would replay for ever on one (spec C-7).
        return Refusal(
            error=RunExpiredError(
                f"Cannot create a hook: terminal run {run.run_id!r} is {run.status}"
            )
        )
    if given.related("hook_created") is not None:
        state = "already exists" if hook is not None else "was already disposed"
        return conflict(f"Hook {given.entity_id!r} of run {given.run_id!r} {state}")
    if (earlier := given.related("hook_conflict")) is not None:
        return Decision(result=EventResult(event=earlier))
    if hook is not None:
        event = given.row()
        return Decision(events=(event,), result=EventResult(event=event, hook=hook))
    if (holder := given.facts.token_holder) is not None:
        event = given.row(
            event_type="hook_conflict",
            event_data={"token": holder.token, "conflictingRunId": holder.run_id},
        )
        return Decision(events=(event,), result=EventResult(event=event))
    event = given.row()
    hook = _new_hook(given, event)
    return Decision(events=(event,), hook=hook, result=EventResult(event=event, hook=hook))


def received(given: Given) -> Verdict:
    if given.facts.hook is None:
        return Refusal(error=HookNotFoundError(hook_id=given.entity_id))
    # The sweep tells by their times whether a delivery has seen this event (spec 4.10). Whoever
    # resumes may die before it wakes the run, and the clock may have been set back since a claim.
    claim = given.facts.last_claim_at
    now = given.now if claim is None else max(given.now, claim)
    event = given._replace(now=now).row()
    return Decision(events=(event,), result=EventResult(event=event))


def disposed(given: Given) -> Verdict:
    if given.facts.hook is None:
        return Refusal(error=HookNotFoundError(hook_id=given.entity_id))
    event = given.row()
    return Decision(events=(event,), disposed_hook=given.entity_id, result=EventResult(event=event))


def converge(given: Given, earlier: Event) -> Verdict:
    """A resume id that stands in the log already: the same resume, or a conflict."""
    digests = {earlier.payload_digest, given.event.payload_digest} - {None}
    if earlier.correlation_id == given.event.correlation_id and len(digests) < 2:
        return Decision(result=EventResult(event=earlier))
    return Refusal(
        error=HookResumeConflictError(
            f"Resume id {earlier.resume_id!r} of run {given.run_id!r} already stands for "
            "another hook or payload"
        )
    )


def _new_hook(given: Given, event: Event) -> Hook:
    data = given.data
    return Hook(
        run_id=given.run_id,
        hook_id=given.entity_id,
        token=str(data["token"]),
        owner_id=given.owner.owner_id,
        project_id=given.owner.project_id,
        environment=given.owner.environment,
        metadata=data.get("metadata", ABSENT),
        created_at=event.created_at,
        spec_version=given.event.spec_version,
        is_webhook=cast("bool | None", data.get("isWebhook")),
        is_system=cast("bool | None", data.get("isSystem")),
    )
