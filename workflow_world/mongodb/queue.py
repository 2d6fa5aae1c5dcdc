"""The queue: enqueue, claim with leases, settle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from ..backend import Claim, Enqueued, Lease, NewMessage, Taken
from ..core.decision import Intent
from ..core.delivery import Settlement
from ..core.entities import Message
from ..core.recovery import WakeUp
from ..message_rows import (
    claimed,
    has_prefix,
    holder,
    is_leased,
    is_ready,
    is_unfinished,
    pending_wake_up,
    settled,
    stored,
    superfluous,
    will_replay,
)
from ..signals import QUEUE
from . import senders
from .client import Tables
from .database import Database
from .documents import MESSAGES, RUNS, STEPS, Document, step_key
from .intents import ahead_of, carry_out
from .transaction import GONE, Order, Transaction
from .upkeep import Upkeep, begins_with, put_message

_UNFINISHED: Final = {"$in": ["pending", "processing"]}
_BY_DUE: Final[Order] = (("available_at", 1), ("_id", 1))


class MongoQueue(Upkeep):
    """Satisfies ``backend.MessageStore``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._news = True

    async def enqueue(self, message: NewMessage) -> str:
        return await self._database.write(
            lambda transaction: self._enqueue(transaction, message),
            ahead=senders.ahead_of(message.sender),
        )

    async def enqueue_and_claim(
        self,
        message: NewMessage,
        *,
        lease: timedelta,
        serialize_runs: bool,
        taken: Taken | None = None,
    ) -> Enqueued:
        def operation(transaction: Transaction) -> Enqueued:
            message_id, now = self._enqueue(transaction, message), transaction.queue_now
            if message_id != message.message_id:
                return Enqueued(message_id=message_id)
            new = MESSAGES.entity(transaction.get(MESSAGES.collection, message_id) or {})
            if not is_ready(new, now):
                return Enqueued(message_id=message_id)
            if serialize_runs and new.replays is not None:
                found = _of_run(transaction, new.replays)
                if any(one.replays == new.replays and is_leased(one, now) for one in found):
                    return Enqueued(message_id=message_id)
            return Enqueued(message_id=message_id, claimed=self._take(transaction, new, now, lease))

        def tell(enqueued: Enqueued) -> None:
            if taken is not None and enqueued.claimed is not None:
                taken([enqueued.claimed])

        return await self._database.write(
            operation, ahead=senders.ahead_of(message.sender), then=tell
        )

    async def claim(
        self,
        *,
        limit: int,
        lease: timedelta,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
        taken: Taken | None = None,
    ) -> Claim:
        if prefixes is not None and not prefixes:
            return Claim()
        if not self._news:
            # Without news of our own, a look comes before the lane.
            soonest, now = await self._database.read(
                lambda tables: (_soonest(tables, prefixes), self._database.queue_now())
            )
            if soonest is None or soonest > now:
                return Claim(next_due_at=soonest)

        def tell(claim: Claim) -> None:
            if taken is not None and claim.messages:
                taken(claim.messages)

        self._news = False
        claim = await self._database.write(
            lambda transaction: self._claim(transaction, limit, lease, serialize_runs, prefixes),
            then=tell,
        )
        self._news = self._news or bool(claim.messages)
        return claim

    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        def operation(transaction: Transaction) -> frozenset[str]:
            until = transaction.queue_now + lease
            lost: set[str] = set()
            for held in leases:
                found = transaction.get(MESSAGES.collection, held.message_id)
                if found is None or found.get("lease_token") != held.token:
                    lost.add(held.message_id)
                    continue
                before = found.get("leased_until")
                longer = max(until, before) if isinstance(before, datetime) else until
                transaction.change(MESSAGES.collection, held.message_id, leased_until=longer)
            return frozenset(lost)

        places = [(MESSAGES.collection, held.message_id) for held in leases]
        return self._database.write_blocking(operation, ahead=places)

    async def settle(
        self, settlements: Sequence[tuple[Settlement, Intent | None]]
    ) -> Sequence[bool]:
        places = [(MESSAGES.collection, one.message_id) for one, _ in settlements]
        for _, intent in settlements:
            places.extend(() if intent is None else ahead_of(intent))
        replayed = {one.replayed for one, _ in settlements if one.replayed is not None}

        def operation(transaction: Transaction) -> list[bool]:
            waiting = _of_runs(transaction, replayed)
            held = [self._settle(transaction, *one) for one in settlements]
            if any(_is_held_back(transaction, one, replayed) for one in waiting):
                transaction.topics.append(QUEUE)
            return held

        held = await self._database.write(operation, ahead=places)
        self._news = True
        return held

    async def wake(self, wake_up: WakeUp, message: NewMessage) -> str | None:
        def operation(transaction: Transaction) -> str | None:
            run = transaction.get(RUNS.collection, wake_up.run_id)
            now = transaction.queue_now
            if run is None or RUNS.entity(run).is_final:
                return None
            if not _is_missing(transaction, wake_up, message):
                return None
            due = max(now, wake_up.available_at or now)
            is_wake_up = message.is_wake_up and not wake_up.beside_others
            new = replace(message, available_at=due, is_wake_up=is_wake_up)
            put_message(transaction, stored(new, now), new=True)
            return message.message_id

        woken = await self._database.write(operation)
        self._news = True
        return woken

    # --- inside a transaction ---------------------------------------------------------------

    def _enqueue(self, transaction: Transaction, new: NewMessage) -> str:
        now = transaction.queue_now
        self._database.check_payload("The message", new.payload)
        senders.must_hold(transaction, new.sender)
        known: dict[str, Message] = {}
        if new.idempotency_key is not None:
            known |= _by_id(_with_key(transaction, new.idempotency_key))
        if new.is_wake_up and new.run_id is not None:
            known |= _by_id(_of_run(transaction, new.run_id))
        found = superfluous(known.values(), new, now)
        if found is not None:
            return found.message_id
        if new.is_wake_up and pending_wake_up(known.values(), new.run_id) is not None:
            # Stored beside that one, it stands for no other.
            new = replace(new, is_wake_up=False)
        put_message(transaction, stored(new, now), new=True)
        self._news = True
        return new.message_id

    def _take(
        self, transaction: Transaction, message: Message, now: datetime, lease: timedelta
    ) -> Message:
        taken = claimed(message, now, lease)
        if message.damage is None:
            put_message(transaction, taken)
        else:
            # What cannot be read stays as it was found.
            transaction.change(
                MESSAGES.collection,
                message.message_id,
                status=taken.status,
                lease_token=taken.lease_token,
                leased_until=taken.leased_until,
                claimed_at=now,
                deliveries=taken.deliveries,
                updated_at=now,
            )
        if taken.replays is not None:
            transaction.change(RUNS.collection, taken.replays, last_claim_at=now)
        return taken

    def _claim(
        self,
        transaction: Transaction,
        limit: int,
        lease: timedelta,
        serialize: bool,
        prefixes: Sequence[str] | None,
    ) -> Claim:
        now = transaction.queue_now
        taken = list[Message]()
        replaying = set[str]()
        while True:
            wanted = limit - len(taken)
            ready = _ready(transaction, now, wanted, prefixes, replaying)
            chosen = list[Message]()
            more = set[str]()
            if serialize:
                runs = {one.replays for one in ready if one.replays is not None}
                more = _replaying(transaction, runs, now)
            transaction.read_ahead(
                (RUNS.collection, one.replays) for one in ready[:wanted] if one.replays is not None
            )
            for message in ready[:wanted]:
                if serialize and message.replays is not None:
                    if message.replays in more:
                        continue
                    more.add(message.replays)
                chosen.append(self._take(transaction, message, now, lease))
            taken.extend(chosen)
            if len(taken) == limit or len(ready) < wanted or more <= replaying:
                break
            replaying |= more
        due = _soonest_after(transaction, now, prefixes)
        if taken:
            due = min(due or now + lease, now + lease)
        return Claim(messages=taken, next_due_at=due)

    def _settle(self, transaction: Transaction, one: Settlement, intent: Intent | None) -> bool:
        document = transaction.get(MESSAGES.collection, one.message_id)
        if document is None or document.get("lease_token") != one.lease_token:
            return False
        message = MESSAGES.readable(document)
        # A settlement's times are this process's, the queue's are the server's.
        ahead = transaction.queue_now - self._database.clock.now()
        key = one.idempotency_key if one.unless_key_held else None
        rivals = [] if key is None else _with_key(transaction, key)
        self._store(transaction, document, settled(message, one, others=rivals, ahead=ahead))
        if intent is not None:
            carry_out(self._database, transaction, intent)
        return True

    @staticmethod
    def _store(transaction: Transaction, before: Document, after: Message) -> None:
        if after.damage is None:
            put_message(transaction, after)
            return
        fresh = MESSAGES.document(replace(after, damage=None))
        names = ("status", "attempt", "deliveries", "available_at", "last_error", "updated_at")
        values = {name: fresh.get(name) for name in (*names, "processed_at")}
        transaction.change(
            MESSAGES.collection,
            before["_id"],
            **values,
            lease_token=None,
            leased_until=None,
            held_key=None,
        )


def _by_id(messages: Iterable[Message]) -> dict[str, Message]:
    return {message.message_id: message for message in messages}


def _messages(
    transaction: Transaction, about: Mapping[str, Any], order: Order = (), limit: int = 0
) -> list[Message]:
    found = transaction.find(MESSAGES.collection, about, order=order, limit=limit)
    return [MESSAGES.readable(one) for one in found]


def _with_key(transaction: Transaction, key: str) -> list[Message]:
    return _messages(
        transaction,
        {"idempotency_key": key, "status": {"$in": ["pending", "processing", "completed"]}},
    )


def _of_run(transaction: Transaction, run_id: str) -> list[Message]:
    return _of_runs(transaction, {run_id})


def _of_runs(transaction: Transaction, run_ids: set[str]) -> list[Message]:
    """The unfinished messages of the runs, and whatever else is known."""
    if not run_ids:
        return []
    return _messages(transaction, {"run_id": {"$in": sorted(run_ids)}, "status": _UNFINISHED})


def _is_held_back(transaction: Transaction, before: Message, replayed: set[str]) -> bool:
    """Whether the message waited for a replay of its run, and is ready now."""
    if before.replays not in replayed:
        return False
    document = transaction.get(MESSAGES.collection, before.message_id)
    return document is not None and is_ready(MESSAGES.readable(document), transaction.queue_now)


def _replaying(transaction: Transaction, runs: set[str], now: datetime) -> set[str]:
    """Those of the runs with a live lease on a message that replays them."""
    if not runs:
        return set()
    about = {"run_id": {"$in": sorted(runs)}, "status": "processing", "leased_until": {"$gt": now}}
    found = _messages(transaction, about)
    return {one.replays for one in found if one.replays is not None and is_leased(one, now)}


def _ready(
    transaction: Transaction,
    now: datetime,
    limit: int,
    prefixes: Sequence[str] | None,
    passed_over: set[str],
) -> list[Message]:
    """Pending and expired ones alike, the oldest due first."""
    others = {**begins_with(prefixes)}
    if passed_over:
        others["replays"] = {"$nin": sorted(passed_over)}
    pending = {"status": "pending", "available_at": {"$lte": now}, **others}
    left = {"status": "processing", "leased_until": {"$not": {"$gt": now}}, **others}
    found = _by_id(_messages(transaction, pending, _BY_DUE, limit))
    found |= _by_id(_messages(transaction, left, _BY_DUE, limit))
    ready = [
        one
        for one in found.values()
        if is_ready(one, now)
        and has_prefix(one, prefixes)
        and (one.replays is None or one.replays not in passed_over)
    ]
    ready.sort(key=lambda message: (message.available_at, message.message_id))
    return ready


def _soonest(tables: Tables, prefixes: Sequence[str] | None) -> datetime | None:
    """When the next message becomes ready, or became."""
    messages = tables[MESSAGES.collection]
    times: list[datetime] = []
    for status, name in (("pending", "available_at"), ("processing", "leased_until")):
        about = {"status": status, GONE: {"$exists": False}, **begins_with(prefixes)}
        found = messages.find_one(about, {name: 1}, sort=[(name, 1)])
        if found is not None:
            time = found.get(name)
            # A damaged time is as good as past: whoever claims the message says so.
            times.append(time if isinstance(time, datetime) else _LONG_AGO)
    return min(times, default=None)


_LONG_AGO: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _soonest_after(
    transaction: Transaction, now: datetime, prefixes: Sequence[str] | None
) -> datetime | None:
    """When the next message that is not ready becomes so."""
    times: list[datetime] = []
    for status, name in (("pending", "available_at"), ("processing", "leased_until")):
        about = {"status": status, name: {"$gt": now}, **begins_with(prefixes)}
        times.extend(
            one.leased_until or one.available_at
            for one in _messages(transaction, about, ((name, 1),), 1)
            if is_unfinished(one) and has_prefix(one, prefixes) and not is_ready(one, now)
        )
    return min(times, default=None)


def _is_missing(transaction: Transaction, wake_up: WakeUp, message: NewMessage) -> bool:
    """Whether no message says what the wake-up says; the run has not ended."""
    now = transaction.queue_now
    of_run = [one for one in _of_run(transaction, wake_up.run_id) if one.run_id == wake_up.run_id]
    if wake_up.beside_others:
        return not any(will_replay(one, now) for one in of_run)
    if wake_up.step_id is None:
        return not any(is_unfinished(one) for one in of_run)
    stored_step = transaction.get(STEPS.collection, step_key(wake_up.run_id, wake_up.step_id))
    if stored_step is None or STEPS.entity(stored_step).is_final:
        return False
    key = message.idempotency_key
    if key is not None and holder(_with_key(transaction, key), key) is not None:
        return False
    failed = _messages(transaction, {"run_id": wake_up.run_id, "status": "failed"})
    of_step = [
        one
        for one in (*of_run, *failed)
        if one.run_id == wake_up.run_id and one.step_id == wake_up.step_id
    ]
    return not any(is_unfinished(one) or one.status == "failed" for one in of_step)
