"""The sweep for runs that nobody will wake (spec 4.10): what is known of a run -> messages to send.

A writer stores its event first and enqueues second; a crash in between leaves a run without a
wake-up. Everything here is idempotent: step messages carry the step id as key, and run wake-ups
are only stored while the run has no unfinished message, or none that is going to replay it soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from .entities import Run
from .queue_names import workflow_queue

MOMENT: Final = timedelta(seconds=10)
"""A message that falls due within this time spares another one. The clocks of two sweeping
workers differ by less, so that the second sees what the first has sent as due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrandedStep:
    """A pending or running step without an unfinished or failed message."""

    step_id: str
    step_name: str
    retry_after: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the sweep knows of one run that is not final.

    Attributes:
        run: without payloads.
        has_message: an unfinished message of the run exists, of any kind.
        will_replay: one that replays the run is claimed, or due within ``MOMENT``.
        last_claim_at: when a workflow message of the run was last claimed; may lag behind.
        last_waking_at: time of the newest event a suspended run waits for.
        next_due_at: the earliest ``resumeAt`` of its open waits.
        has_hook, has_open_step: it has a live hook; a step that is not final.
        stranded: steps whose message is gone.
    """

    run: Run
    has_message: bool = False
    will_replay: bool = False
    last_claim_at: datetime | None = None
    last_waking_at: datetime | None = None
    next_due_at: datetime | None = None
    has_hook: bool = False
    has_open_step: bool = False
    stranded: Sequence[StrandedStep] = ()

    @property
    def may_lack_a_wake_up(self) -> bool:
        """Whether ``RunStore.stranded`` tells of the run."""
        return (
            bool(self.stranded) or not self.has_message or (self.has_hook and not self.will_replay)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUp:
    """A message to enqueue. Without a step it is for the run and must find no unfinished one.

    ``beside_others``: it must find none that replays the run and is claimed or due within
    ``MOMENT``; others, such as the timer of a sleep, may be there.
    """

    queue_name: str
    run_id: str
    step_id: str | None = None
    step_name: str | None = None
    available_at: datetime | None = None
    beside_others: bool = False
    reason: str

    @property
    def payload(self) -> dict[str, object]:
        body: dict[str, object] = {"runId": self.run_id}
        if self.step_id is not None:
            body |= {"stepId": self.step_id, "stepName": self.step_name}
        return body


def wake_ups(
    facts: RunFacts,
    *,
    now: datetime,
    grace: timedelta,
    at_start: bool,
    namespace: str | None,
) -> list[WakeUp]:
    """The messages that a run needs and does not have.

    ``grace`` keeps the sweep off rows that their writer is still working on. ``namespace`` is
    for runs that did not store their own. A legacy run needs none.
    """
    run, before = facts.run, now - grace
    if (run.spec_version or 1) <= 1:
        # Whatever a delivery would do is not supported for legacy runs (spec 2.10).
        return []
    queue_name = workflow_queue(run.workflow_name, _namespace(run) or namespace)
    found = [
        WakeUp(
            queue_name=queue_name,
            run_id=run.run_id,
            step_id=step.step_id,
            step_name=step.step_name,
            available_at=step.retry_after,
            reason="step without a message",
        )
        for step in facts.stranded
        if run.status == "running" and step.updated_at <= before
    ]
    if found:
        return found
    if facts.has_message:
        # What is not due, or is a step's, may take long to tell the run. Only a hook's payload is
        # sent by nobody who holds a message, which would come again until all is sent.
        is_alone = facts.has_hook and not facts.will_replay
        reason = _unseen(facts, before) if is_alone else None
    else:
        reason = _reason(facts, before=before, at_start=at_start)
    if reason is None:
        return []
    return [
        WakeUp(
            queue_name=queue_name,
            run_id=run.run_id,
            beside_others=facts.has_message,
            reason=reason,
        )
    ]


def _reason(facts: RunFacts, *, before: datetime, at_start: bool) -> str | None:
    run = facts.run
    if run.status == "pending":
        return "pending run without a message" if run.updated_at <= before else None
    if facts.next_due_at is not None and facts.next_due_at <= before:
        return "elapsed wait without a message"
    if unseen := _unseen(facts, before):
        return unseen
    if at_start and run.updated_at <= before and not _only_waits_for_hooks(facts):
        return "running run without a message"
    return None


def _unseen(facts: RunFacts, before: datetime) -> str | None:
    waking, claim = facts.last_waking_at, facts.last_claim_at
    if waking is not None and waking <= before and (claim is None or waking >= claim):
        return "outcome that no delivery has seen"
    return None


def _only_waits_for_hooks(facts: RunFacts) -> bool:
    return facts.has_hook and facts.next_due_at is None and not facts.has_open_step


def _namespace(run: Run) -> str | None:
    value = (run.execution_context or {}).get("queueNamespace")
    return value if isinstance(value, str) and value else None
