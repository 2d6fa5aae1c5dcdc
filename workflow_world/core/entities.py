"""What a World stores, as frozen records, and the one value that means "no payload".

Times are aware UTC datetimes with whole milliseconds (spec 1.1). Payload fields hold any value;
``ABSENT`` means that there is none, which differs from a payload that is ``None`` (spec 1.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Generic, Literal, TypeAlias, TypeVar, final


class Absent(Enum):
    """The type of ``ABSENT``; falsy, so ``if run.output:`` reads naturally."""

    ABSENT = "ABSENT"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT

Payload: TypeAlias = object
EventData: TypeAlias = Mapping[str, object]

RunStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "cancelled"]
StepStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "cancelled"]
WaitStatus: TypeAlias = Literal["waiting", "completed"]
MessageStatus: TypeAlias = Literal["pending", "processing", "completed", "failed"]

FINAL_STATUSES: Final[frozenset[str]] = frozenset({"completed", "failed", "cancelled"})
"""Run and step statuses that no event leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workflow run (spec 1.3)."""

    run_id: str
    status: RunStatus
    deployment_id: str
    workflow_name: str
    spec_version: int | None = None
    execution_context: Mapping[str, object] | None = None
    input: Payload = ABSENT
    output: Payload = ABSENT
    error: Payload = ABSENT
    error_code: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    encryption_public_key: str | None = None
    expired_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run; the key is (run_id, step_id) (spec 1.4)."""

    run_id: str
    step_id: str
    step_name: str
    status: StepStatus
    input: Payload = ABSENT
    output: Payload = ABSENT
    error: Payload = ABSENT
    attempt: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    retry_after: datetime | None = None
    created_at: datetime
    updated_at: datetime
    spec_version: int | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A live hook; it exists until it is disposed or its run ends (spec 1.5)."""

    run_id: str
    hook_id: str
    token: str
    owner_id: str
    project_id: str
    environment: str
    metadata: Payload = ABSENT
    created_at: datetime
    spec_version: int | None = None
    is_webhook: bool | None = None
    is_system: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A durable sleep, read from its two events (spec 1.5)."""

    run_id: str
    wait_id: str
    status: WaitStatus
    resume_at: datetime | None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    spec_version: int | None = None


@final
@dataclass(frozen=True, kw_only=True)  # without slots: a ``__dict__`` is copied at once
class Event:
    """One row of a run's log (spec 1.6).

    ``position`` is dense from 1 within the run and decides the order. ``position``, ``due_at``
    and ``payload_digest`` are ours and never travel on the wire. ``due_at`` marks an open wait in
    the database; what a list returns may be older, and equality does not look at it.
    """

    run_id: str
    event_id: str
    position: int
    event_type: str
    correlation_id: str | None = None
    spec_version: int
    event_data: EventData | None = None
    created_at: datetime
    occurred_at: datetime | None = None
    resume_id: str | None = None
    payload_digest: str | None = None
    due_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    """What one write returns; only what the event touched is set (spec 2.11)."""

    event: Event | None = None
    events: Sequence[Event] | None = None
    run: Run | None = None
    step: Step | None = None
    hook: Hook | None = None
    wait: Wait | None = None
    cursor: str | None = None
    has_more: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of the queue (spec 1.7). ``payload`` is CBOR.

    ``damage`` says why a claimed message cannot be delivered: the store holds what nobody wrote.
    """

    message_id: str
    queue_name: str
    payload: bytes
    status: MessageStatus = "pending"
    attempt: int = 1
    max_attempts: int
    deliveries: int = 0
    idempotency_key: str | None = None
    available_at: datetime
    lease_token: str | None = None
    leased_until: datetime | None = None
    claimed_at: datetime | None = None
    run_id: str | None = None
    step_id: str | None = None
    is_wake_up: bool = False
    deployment_id: str | None = None
    headers: Mapping[str, str] | None = None
    last_error: Mapping[str, object] | None = None
    created_at: datetime
    updated_at: datetime
    processed_at: datetime | None = None
    damage: str | None = None

    @property
    def replays(self) -> str | None:
        """The run that its delivery replays: that of a run's message that is not for a step."""
        return self.run_id if self.step_id is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """Counts per queue and status, and how far behind the queue is."""

    counts: Mapping[str, Mapping[MessageStatus, int]]
    oldest_due_at: datetime | None = None
    oldest_claimed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk of a stream; ``index`` is dense from 0 (spec 1.7)."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """``tail_index`` is the last chunk's index, or -1; ``done`` says that the stream is closed."""

    tail_index: int
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksPage:
    """A snapshot page of a stream (spec 5.6)."""

    data: Sequence[Chunk]
    cursor: str | None = None
    has_more: bool = False
    done: bool = False


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list (spec 3.2)."""

    data: Sequence[T]
    cursor: str | None = None
    has_more: bool = False
