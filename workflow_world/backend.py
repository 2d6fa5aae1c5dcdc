"""The seam: what a database must do for a World. Four protocols, about twenty verbs, no rules.

A backend loads facts, applies decisions and keeps both atomic. It decides nothing about runs,
steps, hooks, deliveries or recovery: those rules are in ``workflow_world.core`` and arrive here as
values and pure functions. ``workflow_world.memory`` is the reference to copy from, and
``workflow_world.testing.conformance`` says when a backend is done.

Common to all verbs:

- A verb that returned is durable and visible to every handle on the same database. A loss of
  power, but no crash, may undo the latest claims, extensions, settlements without an intent, and
  messages with a ``sender``: what was delivered is then delivered again, as it may be anyway. It
  undoes the last of them first.
- A verb that raised wrote nothing, except ``BackendError`` with code ``UNKNOWN_OUTCOME``.
- Driver errors never leak: they become ``BackendError`` with the original as ``__cause__``.
- Times are aware UTC datetimes with whole milliseconds; durations are ``timedelta``.
- Verbs may be called from any event loop of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias, runtime_checkable

from .core.decision import Facts, Intent, Verdict
from .core.delivery import Lease, Settlement
from .core.entities import (
    Chunk,
    Event,
    EventResult,
    Hook,
    Message,
    MessageStatus,
    QueueStats,
    Run,
    Step,
    StreamInfo,
    Wait,
)
from .core.paging import Query
from .core.recovery import RunFacts, WakeUp

__all__ = [
    "Backend",
    "Capabilities",
    "ChunkStore",
    "Claim",
    "Enqueued",
    "Facts",
    "Intent",
    "Lease",
    "MessageStore",
    "NewMessage",
    "Notifier",
    "Presence",
    "Retention",
    "RunStore",
    "Subscription",
    "Taken",
    "Verdict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond the contract; asked by code and tests alike.

    Attributes:
        name: for messages and test ids.
        durable: content survives the process.
        cross_process: several processes may open one database.
        notifies_processes: another process's write wakes a subscription without a poll.
        constraints: the database itself refuses an illegal row.
        max_chunk_bytes, max_payload_bytes: refused above with PayloadTooLargeError; None: no limit.
    """

    name: str
    durable: bool = True
    cross_process: bool = True
    notifies_processes: bool = False
    constraints: bool = True
    max_chunk_bytes: int | None = None
    max_payload_bytes: int | None = None


@runtime_checkable
class RunStore(Protocol):
    """Runs, steps, hooks, waits and the event log."""

    async def write(self, intent: Intent) -> EventResult:
        """Load the intent's facts, call its ``decide``, apply the decision: one atomic step.

        The run is locked against every other writer, of any process, from before the facts are
        read until the commit. ``decide`` gets the process clock's time and may be called again
        with fresh facts. A decision that does not write needs no transaction; with
        ``intent.mostly_reads`` it is first tried on a plain read.

        Returns: the decision's result, after the commit.
        Raises: the refusal's error; BackendError.
        Source: spec 2.1, design 4.
        """
        ...

    async def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None: ...

    async def get_runs(self, run_ids: Sequence[str]) -> Mapping[str, Run]:
        """The runs among ``run_ids`` that exist, by id; one statement for many of them."""
        ...

    async def get_step(self, run_id: str | None, step_id: str) -> Step | None:
        """A step; with ``run_id`` None the newest with that id in any run (spec 3.1)."""
        ...

    async def get_event(self, run_id: str, event_id: str) -> Event | None: ...

    async def get_hook(
        self, *, hook_id: str | None = None, token: str | None = None
    ) -> Hook | None:
        """The live hook with this token, or the newest live hook with this id."""
        ...

    async def list_runs(self, query: Query) -> Sequence[Run]:
        """Rows in the order of the query's key, from behind ``query.after``, in one statement.

        At most ``query.limit`` rows. The same holds for every ``list_`` verb.
        """
        ...

    async def list_steps(self, query: Query) -> Sequence[Step]: ...

    async def list_events(self, query: Query) -> Sequence[Event]:
        """Always a prefix of the log: never an event without all earlier ones (spec 3.3)."""
        ...

    async def list_hooks(self, query: Query) -> Sequence[Hook]: ...

    async def list_waits(self, query: Query) -> Sequence[Wait]:
        """Waits of runs that have not ended."""
        ...

    async def stranded(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        """Facts of runs that may lack a wake-up, for the sweep (spec 4.10), by run id.

        Candidates: pending or running runs without an unfinished message; those with a live hook
        and no unfinished message that replays them and is claimed or due within ``MOMENT``; and
        runs with a step that is not final and has neither an unfinished nor a failed message.
        False positives are allowed, false negatives are not.

        Returns: up to ``limit`` facts behind run id ``after``, and the run id to go on from or
        None at the end.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to enqueue. ``available_at`` None means now, by the queue's clock.

    Attributes:
        delay: added to now when ``available_at`` is None.
        is_wake_up: do not store it while another wake-up of the run is pending in its queue
            (design 7). It has no headers.
        key_ttl: how long a completed message still holds its idempotency key (spec 4.4).
        sender: the delivery that sends it; refused with LeaseLostError once its lease is lost.
    """

    message_id: str
    queue_name: str
    payload: bytes
    max_attempts: int
    delay: timedelta = timedelta(0)
    available_at: datetime | None = None
    idempotency_key: str | None = None
    key_ttl: timedelta = timedelta(0)
    run_id: str | None = None
    step_id: str | None = None
    is_wake_up: bool = False
    deployment_id: str | None = None
    headers: Mapping[str, str] | None = None
    sender: Lease | None = None

    @property
    def replays(self) -> str | None:
        """See ``Message.replays``."""
        return self.run_id if self.step_id is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """The id of the stored or found message, and the message when it was claimed at once."""

    message_id: str
    claimed: Message | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim took, and when the next message falls due (None: nothing is waiting)."""

    messages: Sequence[Message] = ()
    next_due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished messages are kept."""

    completed: timedelta
    failed: timedelta


class Presence(Protocol):
    """A started worker's mark on the database; ``close`` removes it. Safe to close twice."""

    def close(self) -> None: ...


Taken: TypeAlias = Callable[[Sequence[Message]], None]
"""What a claim tells as soon as it is committed, from any thread: the event loop that asked for it
may be busy for longer than a lease."""

OLDEST: Final = 1000
"""So many pending messages ``MessageStore.unserved`` looks at."""


@runtime_checkable
class MessageStore(Protocol):
    """The queue. Due times and leases are compared with one clock per database (spec 1.1)."""

    async def enqueue(self, message: NewMessage) -> str:
        """Store a message, or find the one that makes it superfluous, atomically (spec 4.4).

        In this order: an unfinished message with the same idempotency key; a completed one that
        finished less than ``key_ttl`` ago; for a wake-up, a pending, unclaimed wake-up of the
        same run in the same queue that is due. Nothing of a found message changes. A run has one
        pending wake-up: what is stored beside one is an ordinary message.

        With a ``sender`` it may be undone by a loss of power: whatever undoes the message undoes
        the delivery's later settlement too, so the delivery comes again and sends it again.

        Returns: the id of the stored or found message.
        """
        ...

    async def enqueue_and_claim(
        self,
        message: NewMessage,
        *,
        lease: timedelta,
        serialize_runs: bool,
        taken: Taken | None = None,
    ) -> Enqueued:
        """``enqueue``, and a stored message that is ready is claimed in the same atomic step.

        ``taken`` is told of it: see ``Taken``.
        It is not claimed while ``serialize_runs`` holds it back. Older messages that are ready
        are passed over: only a worker that has a free slot for each of them asks for this.
        """
        ...

    async def claim(
        self,
        *,
        limit: int,
        lease: timedelta,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
        taken: Taken | None = None,
    ) -> Claim:
        """Take up to ``limit`` messages for this worker, in one atomic step.

        Ready: pending with ``available_at`` reached, or processing with an expired lease; oldest
        ``available_at`` first, then by id. Each claimed message has a new ``lease_token``,
        ``leased_until``, ``claimed_at`` and ``deliveries`` one higher. Two live leases on one
        message cannot exist.

        ``serialize_runs``: a message with a run and no step is passed over while another such
        message of that run is in a live lease, or was taken in this very claim.
        ``prefixes``: take only messages whose queue name starts with one of these; None: all.
        ``taken`` is told of what was taken, if anything was: see ``Taken``.

        ``next_due_at`` is the earliest time in the future at which a message of these prefixes
        becomes ready; it may be too early, never too late.
        """
        ...

    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        """Move ``leased_until`` of the live leases to now plus ``lease``. **Blocking**: it is
        called from the heartbeat's own thread, which a busy event loop cannot starve.

        Returns: the ids of messages whose lease is lost.
        """
        ...

    async def settle(
        self, settlements: Sequence[tuple[Settlement, Intent | None]]
    ) -> Sequence[bool]:
        """End deliveries, each only while its lease token still matches (spec 4.3).

        A message that returns to pending is no wake-up any more. With ``unless_key_held`` and
        another unfinished message holding the key, it completes instead, and only its status,
        times and last error change.
        The intent, if any, is decided and applied in the same transaction; its refusal is
        ignored. Messages of a run that ``serialize_runs`` held back until now are notified.

        Returns: for each, False when the lease was lost and nothing was changed.
        """
        ...

    async def reap(self) -> int:
        """Return every expired lease to pending, attempt and due time unchanged (spec 4.9); none
        of them is a wake-up any more.

        Returns: how many.
        """
        ...

    async def wake(self, wake_up: WakeUp, message: NewMessage) -> str | None:
        """Enqueue what the sweep found missing, if it is still missing (spec 4.10).

        Only while the run has not ended. With a step: only while the step is not final and
        neither an unfinished or failed message of it exists nor another unfinished message holds
        its key. Without: only while the run has no unfinished message; ``beside_others``: none that
        replays it and is claimed or due within ``MOMENT``. The message falls due at
        ``wake_up.available_at`` or now, whichever is later; ``key_ttl`` does not count here. Beside
        others it is no wake-up.

        Returns: the message id, or None when nothing was missing any more.
        """
        ...

    async def unserved(
        self, *, prefixes: Sequence[str], overdue: timedelta
    ) -> Mapping[str, datetime]:
        """Queues from which nobody takes anything, whose names start with none of ``prefixes``.

        Of the ``OLDEST`` pending messages that fell due first, those that did so at least
        ``overdue`` ago: what nobody takes is among them by and by, and a backlog costs no more.

        Returns: when the first of each queue fell due.
        """
        ...

    async def enter(self) -> Presence:
        """Announce a worker. Where the backend can prove that no other worker is alive on this
        database, all leases are freed at once (design 7)."""
        ...

    async def prune(self, retention: Retention, *, limit: int) -> int:
        """Delete up to ``limit`` finished messages older than the retention; never unfinished
        ones. When the last claim of a run is deleted with them it is kept for ``stranded``.

        Returns: how many.
        """
        ...

    async def stats(self) -> QueueStats: ...

    async def list_messages(
        self,
        *,
        status: MessageStatus | None,
        run_id: str | None,
        queue_name: str | None,
        after: str | None,
        limit: int,
    ) -> Sequence[Message]:
        """Messages by message id, from behind id ``after``."""
        ...

    async def get_message(self, message_id: str) -> Message | None: ...

    async def retry(self, message_id: str) -> bool:
        """Make a failed or completed message pending again: attempt 1, due now, no wake-up.

        Returns: False when there is no such message, or it is unfinished, or another unfinished
        message holds its key.
        """
        ...

    async def delete(self, message_id: str) -> bool:
        """Delete a message that is not in a live lease. Returns: whether one was deleted."""
        ...


@runtime_checkable
class ChunkStore(Protocol):
    """Streams: append-only lists of byte chunks, by (run_id, name), without a run row.

    ``sender`` is the delivery that writes: refused with LeaseLostError once its lease is lost.
    """

    async def append(
        self, run_id: str, name: str, chunks: Sequence[bytes], *, sender: Lease | None = None
    ) -> int:
        """Append all chunks, in order, with consecutive indices: all or nothing.

        Returns: the index of the first.
        Raises: StreamClosedError, PayloadTooLargeError.
        """
        ...

    async def close(self, run_id: str, name: str, *, sender: Lease | None = None) -> None:
        """Mark the stream closed, creating it if needed; again is a no-op."""
        ...

    async def page(
        self, run_id: str, name: str, *, start: int, limit: int, max_bytes: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        """Chunks from index ``start`` on and the stream's info, seen at one instant.

        At most ``limit`` chunks and about ``max_bytes``, but always at least one when there is one.
        """
        ...

    async def info(self, run_id: str, name: str) -> StreamInfo:
        """Reads no payload. Unknown stream: -1, False."""
        ...

    async def names(self, run_id: str) -> Sequence[str]:
        """Names written or closed by this run, by first write, then name."""
        ...


class Subscription(Protocol):
    """One waiter for one topic. Use it on the event loop that created it."""

    async def wait(self, timeout: float | None) -> bool:
        """Wait for a wake-up since the last ``wait`` returned, at most ``timeout`` seconds.

        Returns: True for a wake-up, False for the timeout. May wake for nothing.
        """
        ...

    def close(self) -> None: ...


class Notifier(Protocol):
    """Wake-ups: "look again", never data. Losing all of them only costs latency.

    Topics: ``queue``, ``run:RUN_ID``, ``stream:RUN_ID:NAME``. The stores notify after a commit.
    """

    def notify(self, topic: str) -> None:
        """Wake the topic's subscriptions, from any thread."""
        ...

    def subscribe(self, topic: str) -> Subscription: ...


@runtime_checkable
class Backend(Protocol):
    """One handle on one database."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def runs(self) -> RunStore: ...
    @property
    def messages(self) -> MessageStore: ...
    @property
    def chunks(self) -> ChunkStore: ...
    @property
    def notifier(self) -> Notifier: ...

    async def open(self) -> None:
        """Connect, migrate or check the schema. Concurrent calls share one attempt; a failed one
        is tried again by the next call; once it succeeded this returns at once.

        Raises: BackendError, SchemaError, ConfigurationError.
        """
        ...

    async def close(self) -> None:
        """Give back what this handle holds; never raises because the database is gone."""
        ...
