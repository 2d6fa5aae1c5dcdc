"""Runs of spec version 1 or none: almost nothing is allowed (spec 2.10)."""

from __future__ import annotations

from dataclasses import replace

from . import log
from .decision import Decision, Verdict
from .entities import EventResult
from .events import CURRENT_SPEC_VERSION
from .rules import Given, conflict
from .rules_hook import converge


def decide(given: Given) -> Verdict:
    if given.event.event_type == "run_cancelled":
        return _cancel(given)
    if given.event.event_type in ("wait_completed", "hook_received"):
        return _record(given)
    return conflict(f"{given.event.event_type} is not supported for legacy runs ({given.run_id!r})")


def _cancel(given: Given) -> Verdict:
    run = given.run
    if run.status == "cancelled":
        return Decision(result=EventResult(run=run))
    if run.is_final:
        return conflict(f"Cannot cancel run {run.run_id!r} in terminal state {run.status!r}")
    now = max(given.now, run.updated_at)
    cancelled = replace(run, status="cancelled", completed_at=now, updated_at=now)
    return Decision(run=cancelled, ended=True, result=EventResult(run=cancelled))


def _record(given: Given) -> Verdict:
    if given.facts.resumed is not None:
        return converge(given, given.facts.resumed)
    if given.related("wait_completed") is not None:
        # One row only, or the SDK's replay of the log would fail (spec 2.9).
        return conflict(f"Wait {given.entity_id!r} of run {given.run_id!r} is already completed")
    stamped = replace(given.event, spec_version=CURRENT_SPEC_VERSION)
    event = log.append(given.run_id, given.run.spec_version, given.facts.last, given.now, stamped)
    return Decision(events=(event,), result=EventResult(event=event))
