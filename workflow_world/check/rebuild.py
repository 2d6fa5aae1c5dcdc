"""Rows from their log, written through the seam: intents that append no event.

The backend locks the run and loads what it knows; each intent writes only while the log still
ends where it was read, so nothing that happened since can be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from ..core.decision import RUN_CHANGES, Decision, Facts, Intent, Needs, Verdict
from ..core.entities import Event, EventResult, Run, Step
from ..core.fold import Folded
from ..core.invariants import Finding, RunRows, folded, with_owner
from ..core.rules import Owner

_NOTHING = Decision(result=EventResult())


def intents_for(rows: RunRows, findings: Sequence[Finding], owner: Owner) -> Iterable[Intent]:
    """One intent per row to write. None for a run whose log is not sound."""
    expected = folded(rows)
    if isinstance(expected, Finding) or expected.run is None or not findings:
        return
    write = partial(_intent, rows.log[-1], expected.run)
    # The end of a run takes its hooks and open waits along.
    yield write(ended=expected.run.is_final)
    for one in findings:
        yield from _of(one, rows, expected, owner, write)


def _of(
    finding: Finding, rows: RunRows, expected: Folded, owner: Owner, write: Any
) -> Iterable[Intent]:
    key = finding.subject or ""
    match finding.kind:
        case "step-missing" | "step-differs":
            yield write(step=expected.steps[key], needs=Needs(step_id=key))
        case "hook-missing":
            hook = with_owner(expected.hooks[key], owner)
            yield write(hook=hook, needs=Needs(hook_id=key, token=hook.token))
        case "hook-unexpected":
            yield write(disposed_hook=key)
        case "wait-due":
            for event in rows.log:
                if event.event_type == "wait_created" and event.correlation_id == key:
                    yield write(closed_wait=event.position)
        case _:
            pass  # the row of the run, and what its end takes along, are in the first intent


def _intent(last: Event, run: Run, *, needs: Needs | None = None, **changes: Any) -> Intent:
    decide = partial(_decide, last, run, changes)
    return Intent(run_id=run.run_id, needs=needs or Needs(), decide=decide)


def _decide(last: Event, run: Run, changes: dict[str, Any], facts: Facts, now: datetime) -> Verdict:
    unmoved = facts.last is not None and (facts.last.position, facts.last.event_id) == (
        last.position,
        last.event_id,
    )
    if facts.run is None or not unmoved:
        return _NOTHING
    if changes.get("hook") is not None and (facts.hook or facts.token_holder):
        return _NOTHING
    decision = Decision(run=_with_changes(facts.run, run), result=EventResult(), **changes)
    step: Step | None = changes.get("step")
    return decision if step is None else decision._replace(step_is_new=facts.step is None)


def _with_changes(stored: Run, expected: Run) -> Run:
    return replace(stored, **{name: getattr(expected, name) for name in RUN_CHANGES})
