"""One intent inside a transaction: load its facts, let it decide, apply the decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

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
from ..core.entities import Event, Hook, Run, Step
from ..core.events import SINGLE_EVENTS, STEP_OUTCOMES, WAKING_EVENTS
from ..signals import run_topic
from .database import Database
from .documents import (
    EVENTS,
    HOOKS,
    MESSAGES,
    RUNS,
    SEPARATOR,
    STEPS,
    Document,
    Kind,
    step_key,
)
from .transaction import Transaction

T = TypeVar("T", Run, Step, Event, Hook)

HEAD = ("last_position", "last_event_id", "last_event_at")
"""In a run's document: the newest event of its log."""


def ahead_of(intent: Intent) -> list[tuple[str, str]]:
    """The documents that the intent's facts are made of, as far as their keys are known."""
    needs, run_id = intent.needs, intent.run_id
    places = [(RUNS.collection, run_id)]
    if needs.step_id is not None:
        places.append((STEPS.collection, step_key(run_id, needs.step_id)))
    if needs.hook_id is not None:
        places.append((HOOKS.collection, step_key(run_id, needs.hook_id)))
    if needs.leased is not None:
        places.append((MESSAGES.collection, needs.leased))
    return places


def carry_out(database: Database, transaction: Transaction, intent: Intent) -> Verdict:
    """Decide, and write unless it is a refusal."""
    verdict = intent.decide(facts_of(transaction, intent), database.clock.now())
    if not isinstance(verdict, Refusal) and verdict.writes:
        _apply(database, transaction, intent.run_id, verdict)
    return verdict


def facts_of(transaction: Transaction, intent: Intent) -> Facts:
    """What the intent asks for, and no more."""
    needs, run_id = intent.needs, intent.run_id
    run = transaction.get(RUNS.collection, run_id)
    return Facts(
        run=None if run is None else RUNS.entity(run if needs.payloads else _brief(RUNS, run)),
        last=None if run is None else last_event_of(run),
        step=_one(transaction, STEPS, run_id, needs.step_id),
        hook=_one(transaction, HOOKS, run_id, needs.hook_id),
        token_holder=_holder(transaction, needs.token),
        related=_related(transaction, intent),
        resumed=_resumed(transaction, run_id, needs.resume_id),
        lease_token=_token(transaction, needs.leased),
        last_claim_at=run.get("last_claim_at") if run is not None and needs.last_claim else None,
    )


def last_event_of(run: Mapping[str, Any]) -> LastEvent | None:
    position, event_id, created_at = (run.get(name) for name in HEAD)
    if type(position) is not int or type(event_id) is not str or type(created_at) is not datetime:
        return None
    return LastEvent(position, event_id, created_at)


def _brief(kind: Kind[Any], document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in kind.payloads}


def _one(transaction: Transaction, kind: Kind[T], run_id: str, key: str | None) -> T | None:
    if key is None:
        return None
    found = transaction.get(kind.collection, step_key(run_id, key))
    return None if found is None else kind.entity(found)


def _holder(transaction: Transaction, token: str | None) -> Hook | None:
    if token is None:
        return None
    found = transaction.find(HOOKS.collection, {"token": token})
    return next((HOOKS.entity(one) for one in found if one.get("token") == token), None)


def _related(transaction: Transaction, intent: Intent) -> tuple[Event, ...]:
    needs, run_id = intent.needs, intent.run_id
    if not needs.related or needs.correlation_id is None:
        return ()
    about = {"run_id": run_id, "correlation_id": needs.correlation_id}
    found = [
        EVENTS.entity(one)
        for one in transaction.find(EVENTS.collection, about)
        if one.get("run_id") == run_id
        and one.get("correlation_id") == needs.correlation_id
        and one.get("event_type") in needs.related
    ]
    return tuple(sorted(found, key=lambda event: event.position))


def _resumed(transaction: Transaction, run_id: str, resume_id: str | None) -> Event | None:
    if resume_id is None:
        return None
    key = SEPARATOR.join((run_id, resume_id))
    found = transaction.find(EVENTS.collection, {"resumed": key})
    return next((EVENTS.entity(one) for one in found if one.get("resumed") == key), None)


def _token(transaction: Transaction, message_id: str | None) -> str | None:
    found = None if message_id is None else transaction.get(MESSAGES.collection, message_id)
    return None if found is None else found.get("lease_token")


def _apply(database: Database, transaction: Transaction, run_id: str, decision: Decision) -> None:
    """Write every part of the decision. What cannot be encoded is refused before."""
    run, step, hook = decision.run, decision.step, decision.hook
    events = [_event_document(database, event) for event in decision.events]
    if run is not None:
        document = RUNS.document(run)
        _fits(database, RUNS, document)
        _store(transaction, RUNS, document, None if decision.run_is_new else RUN_CHANGES)
    if step is not None:
        document = STEPS.document(step)
        _fits(database, STEPS, document)
        _store(transaction, STEPS, document, None if decision.step_is_new else STEP_CHANGES)
    for document in events:
        transaction.insert(EVENTS.collection, document)
    if hook is not None:
        document = HOOKS.document(hook)
        _fits(database, HOOKS, document)
        transaction.insert(HOOKS.collection, document)
    if decision.disposed_hook is not None:
        transaction.drop(HOOKS.collection, step_key(run_id, decision.disposed_hook))
    if (position := decision.closed_wait) is not None:
        _close_waits(transaction, run_id, {"position": position})
    if decision.ended:
        for one in transaction.find(HOOKS.collection, {"run_id": run_id}):
            if one.get("run_id") == run_id:
                transaction.drop(HOOKS.collection, one["_id"])
        _close_waits(transaction, run_id, {})
        transaction.topics.append(run_topic(run_id))
    if decision.events:
        _move_head(transaction, run_id, decision.events)


def _store(
    transaction: Transaction,
    kind: Kind[Any],
    document: Document,
    changes: tuple[str, ...] | None,
) -> None:
    """``changes``: only these fields of a stored one; None: it is new."""
    if changes is None:
        transaction.insert(kind.collection, document)
        return
    values = {name: document.get(name) for name in changes}
    transaction.change(kind.collection, document["_id"], **values)


def _event_document(database: Database, event: Event) -> Document:
    document = EVENTS.document(event)
    database.check_payload(f"The data of event {event.event_type}", document.get("event_data"))
    if event.correlation_id is not None:
        kind = "outcome" if event.event_type in STEP_OUTCOMES else event.event_type
        if kind == "outcome" or event.event_type in SINGLE_EVENTS:
            document["once"] = SEPARATOR.join((event.run_id, kind, event.correlation_id))
    if event.event_type == "hook_received" and event.resume_id is not None:
        document["resumed"] = SEPARATOR.join((event.run_id, event.resume_id))
    if event.due_at is not None:
        document["open_wait"] = event.run_id
    return document


def _fits(database: Database, kind: Kind[Any], document: Document) -> None:
    for name in kind.payloads:
        database.check_payload(f"The {name} of {document['_id'][:80]!r}", document.get(name))


def _close_waits(transaction: Transaction, run_id: str, about: Mapping[str, Any]) -> None:
    for one in transaction.find(EVENTS.collection, {"open_wait": run_id, **about}):
        if one.get("open_wait") == run_id and about.items() <= one.items():
            transaction.change(EVENTS.collection, one["_id"], due_at=None, open_wait=None)


def _move_head(transaction: Transaction, run_id: str, events: tuple[Event, ...]) -> None:
    last = events[-1]
    waking = [event.created_at for event in events if event.event_type in WAKING_EVENTS]
    values: dict[str, Any] = dict(
        zip(HEAD, (last.position, last.event_id, last.created_at), strict=True)
    )
    if waking:
        values["last_waking_at"] = max(waking)
    transaction.change(RUNS.collection, run_id, **values)
