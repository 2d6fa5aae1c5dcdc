"""The queue in memory: enqueue, claim with leases, settle, recover, look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ..backend import OLDEST, Claim, Enqueued, Lease, NewMessage, Retention, Taken
from ..clock import Clock
from ..core.decision import Intent
from ..core.delivery import Settlement
from ..core.entities import Message, MessageStatus, QueueStats
from ..core.recovery import WakeUp
from ..message_rows import (
    claimed,
    has_prefix,
    holder,
    is_leased,
    is_ready,
    is_unfinished,
    must_hold,
    pending_again,
    pending_wake_up,
    settled,
    stored,
    superfluous,
    will_replay,
)
from ..signals import QUEUE
from .apply import carry_out
from .database import MemoryDatabase, Transaction
from .rows import detached


class MemoryQueue:
    """Satisfies ``backend.MessageStore``. The handle's clock decides what is due."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._database = database
        self._messages = database.messages
        self._clock = clock

    async def enqueue(self, message: NewMessage) -> str:
        with self._database.transaction() as change:
            return self._enqueue(change, message)

    async def enqueue_and_claim(
        self,
        message: NewMessage,
        *,
        lease: timedelta,
        serialize_runs: bool,
        taken: Taken | None = None,
    ) -> Enqueued:
        with self._database.transaction() as change:
            now, message_id = self._clock.now(), self._enqueue(change, message)
            if message_id != message.message_id or not is_ready(self._messages[message_id], now):
                return Enqueued(message_id=message_id)
            if serialize_runs and message.replays in self._replaying(now):
                return Enqueued(message_id=message_id)
            claimed = detached(self._claim(change, self._messages[message_id], now, lease))
        if taken is not None:
            taken([claimed])
        return Enqueued(message_id=message_id, claimed=claimed)

    async def claim(
        self,
        *,
        limit: int,
        lease: timedelta,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
        taken: Taken | None = None,
    ) -> Claim:
        with self._database.transaction() as change:
            now = self._clock.now()
            ready = sorted(
                (
                    m
                    for m in self._messages.values()
                    if is_ready(m, now) and has_prefix(m, prefixes)
                ),
                key=lambda message: (message.available_at, message.message_id),
            )
            replaying = self._replaying(now)
            claimed: list[Message] = []
            for message in ready:
                if len(claimed) == limit:
                    break
                if serialize_runs and message.replays is not None:
                    if message.replays in replaying:
                        continue
                    replaying.add(message.replays)
                claimed.append(detached(self._claim(change, message, now, lease)))
            due = [
                message.leased_until or message.available_at
                for message in self._messages.values()
                if is_unfinished(message)
                and has_prefix(message, prefixes)
                and not is_ready(message, now)
            ]
        if taken is not None and claimed:
            taken(claimed)
        return Claim(messages=claimed, next_due_at=min(due, default=None))

    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        with self._database.transaction() as change:
            until = self._clock.now() + lease
            lost: set[str] = set()
            for held in leases:
                message = self._messages.get(held.message_id)
                if message is None or message.lease_token != held.token:
                    lost.add(held.message_id)
                else:
                    # Never to an earlier time: a clock that was set back ends no lease.
                    longer = max(until, message.leased_until or until)
                    self._put(change, replace(message, leased_until=longer))
            return frozenset(lost)

    async def settle(
        self, settlements: Sequence[tuple[Settlement, Intent | None]]
    ) -> Sequence[bool]:
        with self._database.transaction() as change:
            return [self._settle(change, *settlement) for settlement in settlements]

    async def reap(self) -> int:
        with self._database.transaction() as change:
            now = self._clock.now()
            return self._free(change, [m for m in self._processing() if not is_leased(m, now)])

    async def wake(self, wake_up: WakeUp, message: NewMessage) -> str | None:
        with self._database.transaction() as change:
            run = self._database.runs.get(wake_up.run_id)
            now = self._clock.now()
            if run is None or run.is_final or not self._is_missing(wake_up, message, now):
                return None
            due = max(now, wake_up.available_at or now)
            is_wake_up = message.is_wake_up and not wake_up.beside_others
            new = replace(message, available_at=due, is_wake_up=is_wake_up)
            self._put(change, stored(new, now))
            return message.message_id

    async def unserved(
        self, *, prefixes: Sequence[str], overdue: timedelta
    ) -> Mapping[str, datetime]:
        with self._database.lock:
            pending = [m for m in self._messages.values() if m.status == "pending"]
        before = self._clock.now() - overdue
        found: dict[str, datetime] = {}
        for message in sorted(pending, key=lambda m: m.available_at)[:OLDEST]:
            if message.available_at <= before and not has_prefix(message, prefixes):
                found.setdefault(message.queue_name, message.available_at)
        return found

    async def enter(self) -> MemoryPresence:
        with self._database.transaction() as change:
            if not self._database.workers:
                # Whoever holds a lease has stopped: nobody works on these messages.
                self._free(change, self._processing())
            return MemoryPresence(self._database)

    async def prune(self, retention: Retention, *, limit: int) -> int:
        with self._database.transaction() as change:
            now = self._clock.now()
            before = {"completed": now - retention.completed, "failed": now - retention.failed}
            old = [
                (message.processed_at, message.message_id)
                for message in self._messages.values()
                if message.processed_at is not None
                and message.processed_at < before[message.status]
            ]
            chosen = sorted(old)[:limit]
            for _, message_id in chosen:
                change.drop(self._messages, message_id)
            return len(chosen)

    async def stats(self) -> QueueStats:
        with self._database.lock:
            messages = list(self._messages.values())
        counts: defaultdict[str, Counter[MessageStatus]] = defaultdict(Counter)
        for message in messages:
            counts[message.queue_name][message.status] += 1
        pending = [m.available_at for m in messages if m.status == "pending"]
        processing = [m.claimed_at for m in messages if m.status == "processing" and m.claimed_at]
        return QueueStats(
            counts={name: dict(by_status) for name, by_status in counts.items()},
            oldest_due_at=min(pending, default=None),
            oldest_claimed_at=min(processing, default=None),
        )

    async def list_messages(
        self,
        *,
        status: MessageStatus | None,
        run_id: str | None,
        queue_name: str | None,
        after: str | None,
        limit: int,
    ) -> Sequence[Message]:
        with self._database.lock:
            found = [
                message
                for message_id, message in sorted(self._messages.items())
                if (after is None or message_id > after)
                and status in (None, message.status)
                and run_id in (None, message.run_id)
                and queue_name in (None, message.queue_name)
            ]
            return [detached(message) for message in found[:limit]]

    async def get_message(self, message_id: str) -> Message | None:
        with self._database.lock:
            message = self._messages.get(message_id)
            return None if message is None else detached(message)

    async def retry(self, message_id: str) -> bool:
        with self._database.transaction() as change:
            message, now = self._messages.get(message_id), self._clock.now()
            if (
                message is None
                or is_unfinished(message)
                or holder(self._messages.values(), message.idempotency_key) is not None
            ):
                return False
            again = replace(message, attempt=1, deliveries=0, available_at=now)
            self._put(change, pending_again(again, now))
            return True

    async def delete(self, message_id: str) -> bool:
        with self._database.transaction() as change:
            message = self._messages.get(message_id)
            if message is None or is_leased(message, self._clock.now()):
                return False
            change.drop(self._messages, message_id)
            return True

    # -- inside a transaction

    def _enqueue(self, change: Transaction, new: NewMessage) -> str:
        now = self._clock.now()
        must_hold(self._messages, new.sender)
        found = superfluous(self._messages.values(), new, now)
        if found is not None:
            return found.message_id
        if new.is_wake_up and pending_wake_up(self._messages.values(), new.run_id) is not None:
            # Stored beside that one, it stands for no other.
            new = replace(new, is_wake_up=False)
        self._put(change, stored(new, now))
        return new.message_id

    def _is_missing(self, wake_up: WakeUp, message: NewMessage, now: datetime) -> bool:
        """Whether no message says what the wake-up says; the run has not ended."""
        messages = self._messages.values()
        of_run = [m for m in messages if m.run_id == wake_up.run_id]
        if wake_up.beside_others:
            return not any(will_replay(m, now) for m in of_run)
        if wake_up.step_id is None:
            return not any(is_unfinished(m) for m in of_run)
        step = self._database.steps.get((wake_up.run_id, wake_up.step_id))
        if step is None or step.is_final or holder(messages, message.idempotency_key) is not None:
            return False
        of_step = [m for m in of_run if m.step_id == wake_up.step_id]
        return not any(is_unfinished(m) or m.status == "failed" for m in of_step)

    def _claim(
        self, change: Transaction, message: Message, now: datetime, lease: timedelta
    ) -> Message:
        taken = claimed(message, now, lease)
        self._put(change, taken)
        if taken.replays is not None:
            change.put(self._database.last_claims, taken.replays, now)
        return taken

    def _replaying(self, now: datetime) -> set[str]:
        """The runs with a live lease on a message that replays them."""
        leased = [m.replays for m in self._messages.values() if is_leased(m, now)]
        return {run_id for run_id in leased if run_id is not None}

    def _settle(self, change: Transaction, new: Settlement, intent: Intent | None) -> bool:
        message, now = self._messages.get(new.message_id), new.updated_at
        if message is None or message.lease_token != new.lease_token:
            return False
        self._put(change, settled(message, new, others=self._messages.values()))
        if new.replayed is not None and any(
            m.replays == new.replayed and is_ready(m, now) for m in self._messages.values()
        ):
            change.topics.append(QUEUE)
        if intent is not None:
            carry_out(change, self._database, intent, self._clock.now())
        return True

    def _processing(self) -> list[Message]:
        return [m for m in self._messages.values() if m.status == "processing"]

    def _free(self, change: Transaction, messages: Sequence[Message]) -> int:
        for message in messages:
            self._put(change, pending_again(message, self._clock.now()))
        return len(messages)

    def _put(self, change: Transaction, message: Message) -> None:
        change.put(self._messages, message.message_id, detached(message))
        if message.status == "pending":
            change.topics.append(QUEUE)


class MemoryPresence:
    """Satisfies ``backend.Presence``: a worker is at work until this is closed."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        database.workers.add(self)

    def close(self) -> None:
        self._database.workers.discard(self)
