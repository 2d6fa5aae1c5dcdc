"""One intent inside a transaction: load its facts, let it decide, apply the decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..core.decision import (
    RUN_CHANGES,
    STEP_CHANGES,
    Decision,
    Facts,
    Intent,
    LastEvent,
    Refusal,
    Verdict,
)
from ..signals import run_topic
from .database import MemoryDatabase, Transaction
from .rows import changed, detached, loaded


def carry_out(
    change: Transaction, database: MemoryDatabase, intent: Intent, now: datetime
) -> Verdict:
    """Decide, and write unless it is a refusal; the caller holds the transaction."""
    verdict = intent.decide(facts_of(database, intent), now)
    if not isinstance(verdict, Refusal):
        apply(change, database, intent.run_id, verdict)
    return verdict


def facts_of(database: MemoryDatabase, intent: Intent) -> Facts:
    """What the intent asks for, and no more, as detached copies."""
    run_id, needs = intent.run_id, intent.needs
    log = database.log.get(run_id, {})
    last = log.get(len(log))
    leased = database.messages.get(needs.leased or "")
    holder = (hook for hook in database.hooks.values() if hook.token == needs.token)
    resumed = (
        event
        for event in log.values()
        if event.event_type == "hook_received" and event.resume_id == needs.resume_id
    )
    return Facts(
        run=loaded(database.runs.get(run_id), payloads=needs.payloads),
        last=None if last is None else LastEvent.of(last),
        step=loaded(database.steps.get((run_id, needs.step_id or ""))),
        hook=loaded(database.hooks.get((run_id, needs.hook_id or ""))),
        token_holder=None if needs.token is None else loaded(next(holder, None)),
        lease_token=None if leased is None else leased.lease_token,
        last_claim_at=database.last_claims.get(run_id) if needs.last_claim else None,
        related=tuple(
            detached(event)
            for event in log.values()
            if event.event_type in needs.related and event.correlation_id == needs.correlation_id
        ),
        resumed=None if needs.resume_id is None else loaded(next(resumed, None)),
    )


def apply(change: Transaction, database: MemoryDatabase, run_id: str, decision: Decision) -> None:
    """Write every part of the decision."""
    log = database.log.setdefault(run_id, {})
    if (run := decision.run) is not None:
        stored = run if decision.run_is_new else database.runs[run_id]
        change.put(database.runs, run_id, changed(stored, run, RUN_CHANGES))
    if (step := decision.step) is not None:
        key = (run_id, step.step_id)
        stored_step = step if decision.step_is_new else database.steps[key]
        change.put(database.steps, key, changed(stored_step, step, STEP_CHANGES))
    for event in decision.events:
        change.put(log, event.position, detached(event))
    if (hook := decision.hook) is not None:
        change.put(database.hooks, (run_id, hook.hook_id), detached(hook))
    if decision.disposed_hook is not None:
        change.drop(database.hooks, (run_id, decision.disposed_hook))
    if (position := decision.closed_wait) is not None:
        change.put(log, position, replace(log[position], due_at=None))
    if decision.ended:
        for key in [key for key in database.hooks if key[0] == run_id]:
            change.drop(database.hooks, key)
        for event in [event for event in log.values() if event.due_at is not None]:
            change.put(log, event.position, replace(event, due_at=None))
        change.topics.append(run_topic(run_id))
