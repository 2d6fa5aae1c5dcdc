"""The vocabulary between the rules and a backend: what is known, what was decided, what to load.

A backend loads ``Facts`` inside its own atomic section, calls the intent's ``decide`` and applies
the ``Decision``; it never looks inside. See ``workflow_world.backend`` for the contract.

Of most of these one is made for each event, and a tuple takes a third of a frozen dataclass' time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from ..errors import WorldError
from .entities import Event, EventResult, Hook, Run, Step


class Needs(NamedTuple):
    """Which facts a decision rests on. Everything is about the intent's run.

    Attributes:
        payloads: load the run with its input, output and error.
        step_id: load this step, with its payloads.
        hook_id: load this live hook.
        token: load the live hook, of any run, that holds this token.
        correlation_id, related: load the run's events with this correlation id and these types.
        resume_id: load the run's ``hook_received`` event with this resume id.
        leased: load the lease token of this message.
        last_claim: load when a message that replays the run was last claimed.
    """

    payloads: bool = False
    step_id: str | None = None
    hook_id: str | None = None
    token: str | None = None
    correlation_id: str | None = None
    related: tuple[str, ...] = ()
    resume_id: str | None = None
    leased: str | None = None
    last_claim: bool = False


class LastEvent(NamedTuple):
    """What the next row of a log depends on."""

    position: int
    event_id: str
    created_at: datetime

    @classmethod
    def of(cls, event: Event) -> LastEvent:
        return cls(event.position, event.event_id, event.created_at)


class Facts(NamedTuple):
    """What the backend knows, read under the run's lock.

    Attributes:
        last: the newest event of the run.
        related: in position order; empty unless asked for.
    """

    run: Run | None = None
    last: LastEvent | None = None
    step: Step | None = None
    hook: Hook | None = None
    token_holder: Hook | None = None
    related: tuple[Event, ...] = ()
    resumed: Event | None = None
    lease_token: str | None = None
    last_claim_at: datetime | None = None


class Decision(NamedTuple):
    """Everything to write, all or nothing, and what to answer.

    Attributes:
        events: rows to append, positions already dense behind ``Facts.last``.
        run, run_is_new: the run's new row. When it is not new, only the columns of
            ``RUN_CHANGES`` may differ from the stored row.
        step, step_is_new: likewise for the step.
        hook: a hook to insert.
        disposed_hook: the id of a hook of this run to delete.
        closed_wait: position of the ``wait_created`` event whose ``due_at`` is cleared.
        ended: the run ended: delete its hooks and clear every ``due_at`` of its events.
        result: the answer, once all of this is committed.
    """

    result: EventResult
    events: tuple[Event, ...] = ()
    run: Run | None = None
    run_is_new: bool = False
    step: Step | None = None
    step_is_new: bool = False
    hook: Hook | None = None
    disposed_hook: str | None = None
    closed_wait: int | None = None
    ended: bool = False

    @property
    def writes(self) -> bool:
        """False for a decision that changes nothing: it needs no transaction."""
        return bool(self.events) or self.run is not None


RUN_CHANGES = (
    "status",
    "output",
    "error",
    "error_code",
    "attributes",
    "started_at",
    "completed_at",
    "updated_at",
)
"""The fields of a stored run that a decision may change."""

STEP_CHANGES = (
    "status",
    "output",
    "error",
    "attempt",
    "started_at",
    "completed_at",
    "retry_after",
    "updated_at",
)
"""The fields of a stored step that a decision may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The event is not accepted: nothing is written, ``error`` is raised to the caller."""

    error: WorldError


Verdict: TypeAlias = Decision | Refusal
Decide: TypeAlias = Callable[[Facts, datetime], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A proposed write: the run, the facts it needs, and the pure function that decides.

    ``decide`` may be called several times, with fresh facts each time (after a conflict, or when
    a batch is replayed). ``mostly_reads`` says that the answer is usually a no-op, so it is worth
    deciding on a plain read first.
    """

    run_id: str
    needs: Needs = Needs()
    decide: Decide
    mostly_reads: bool = False
