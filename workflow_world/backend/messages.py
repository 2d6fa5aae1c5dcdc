"""Messages: the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias, runtime_checkable

from ..core.decision import Intent
from ..core.delivery import Lease, Settlement
from ..core.entities import Message, MessageStatus, QueueStats
from ..core.recovery import WakeUp


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
