"""The event state machine: one proposed event against what is known (spec 2).

This module holds the order of checks of spec 2.3; the rules of each entity are in ``rules_*``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final

from ..errors import (
    EntityConflictError,
    LeaseLostError,
    RunExpiredError,
    RunNotFoundError,
    RunNotSupportedError,
)
from . import rules_attribute, rules_hook, rules_legacy, rules_run, rules_step, rules_wait
from .decision import Facts, Intent, Needs, Refusal, Verdict
from .delivery import Lease
from .entities import Run
from .events import MAX_SPEC_VERSION, NewEvent, data_of
from .rules import Given

Rule = Callable[[Given], Verdict]

RULES: Final[Mapping[str, Rule]] = {
    "run_created": rules_run.created,
    "run_started": rules_run.started,
    "run_completed": rules_run.completed,
    "run_failed": rules_run.failed,
    "run_cancelled": rules_run.cancelled,
    "attr_set": rules_attribute.attr_set,
    "step_created": rules_step.created,
    "step_started": rules_step.started,
    "step_retrying": rules_step.retrying,
    "step_completed": rules_step.completed,
    "step_failed": rules_step.failed,
    "hook_created": rules_hook.created,
    "hook_received": rules_hook.received,
    "hook_disposed": rules_hook.disposed,
    "wait_created": rules_wait.created,
    "wait_completed": rules_wait.completed,
}


def intent_for(
    run_id: str, event: NewEvent, *, owner: rules_hook.Owner, sender: Lease | None = None
) -> Intent:
    """The intent that writes ``event``, already through ``events.checked``, to run ``run_id``.

    ``owner`` is stamped on hooks (spec 1.5). ``sender`` is the delivery that writes: once its
    lease is lost another one is at work on the same message, and this one must not interfere.
    """
    needs = needs_of(event)
    if sender is not None:
        needs = needs._replace(leased=sender.message_id)
    return Intent(
        run_id=run_id,
        needs=needs,
        decide=partial(_decide, run_id, event, owner, sender),
        mostly_reads=event.event_type == "run_started",
    )


def needs_of(event: NewEvent) -> Needs:
    """Which facts the rules of this event type look at."""
    kind, correlation_id = event.event_type, event.correlation_id
    if kind.startswith("run_"):
        return Needs(payloads=True)
    if kind.startswith("step_"):
        return Needs(step_id=correlation_id)
    if kind.startswith("wait_"):
        return Needs(correlation_id=correlation_id, related=("wait_created", "wait_completed"))
    if kind == "attr_set":
        related = () if correlation_id is None else ("attr_set",)
        return Needs(payloads=True, correlation_id=correlation_id, related=related)
    if kind == "hook_created":
        return Needs(
            hook_id=correlation_id,
            token=str(data_of(event)["token"]),
            correlation_id=correlation_id,
            related=("hook_created", "hook_conflict", "hook_disposed"),
        )
    return Needs(
        hook_id=correlation_id, resume_id=event.resume_id, last_claim=kind == "hook_received"
    )


def _decide(
    run_id: str,
    event: NewEvent,
    owner: rules_hook.Owner,
    sender: Lease | None,
    facts: Facts,
    now: datetime,
) -> Verdict:
    if sender is not None and facts.lease_token != sender.token:
        return Refusal(error=LeaseLostError(sender.message_id))
    given = Given(run_id=run_id, event=event, facts=facts, now=now, owner=owner)
    run = facts.run
    if event.event_type == "run_created" or (
        run is None and event.event_type == "run_started" and rules_run.can_create(event)
    ):
        return RULES[event.event_type](given)
    if run is None:
        return Refusal(error=RunNotFoundError(run_id))
    if refusal := _not_writable(run, event, now):
        return refusal
    if (run.spec_version or 1) <= 1:
        return rules_legacy.decide(given)
    if facts.resumed is not None:
        # A repeated resume converges even after the hook or the run ended (spec 2.8).
        return rules_hook.converge(given, facts.resumed)
    return RULES[event.event_type](given)


def _not_writable(run: Run, event: NewEvent, now: datetime) -> Refusal | None:
    if run.expired_at is not None and run.expired_at <= now:
        message = f"Run {run.run_id!r} expired"
        if event.event_type.startswith("step_"):
            # The SDK's step path only understands a conflict (spec C-8).
            return Refusal(error=EntityConflictError(message))
        return Refusal(error=RunExpiredError(message))
    if (run.spec_version or 1) > MAX_SPEC_VERSION:
        return Refusal(
            error=RunNotSupportedError(run.run_id, run.spec_version or 1, MAX_SPEC_VERSION)
        )
    return None
