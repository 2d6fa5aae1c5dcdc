"""Messages come in, each once per key; a free worker may take its own at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypedDict

from ...backend import Enqueued, NewMessage, Taken
from ...core.entities import Message
from ...core.recovery import WakeUp
from ...core.values import to_ms
from ...ids import new_ulid
from ...signals import QUEUE
from ..compiled import Read, Session
from ..contention import MAX_LOOKS, contended
from ..lane import Locks
from ..replays import soon
from ..rows import json_of, message_of
from .base import QueueBase, earliest, first_due


class Enqueuing(QueueBase):
    async def enqueue(self, message: NewMessage) -> str:
        def enqueue(session: Session) -> str:
            return self._store(session, message, lambda row, now: row)[0]

        found = await self._database.write(enqueue, **self._terms(message))
        if found == message.message_id:
            self._tell()
        return found

    async def enqueue_and_claim(
        self,
        message: NewMessage,
        *,
        lease: timedelta,
        serialize_runs: bool,
        taken: Taken | None = None,
    ) -> Enqueued:
        def enqueue(session: Session) -> Enqueued:
            def if_free(row: dict[str, Any], now: datetime) -> dict[str, Any]:
                if row["available_at"] > to_ms(now):
                    return row
                if serialize_runs and self._is_replayed(session, message.replays, now):
                    return row
                mark = self._mark(message.replays, serialize_runs)
                return row | _claimed(now, lease) | {"is_replaying": mark}

            found, row = self._store(session, message, if_free)
            is_mine = row is not None and row["lease_token"] is not None
            return Enqueued(message_id=found, claimed=_message_of(row) if row and is_mine else None)

        def tell(done: Enqueued) -> None:
            if taken is not None and done.claimed is not None:
                taken([done.claimed])

        terms = self._terms(message, claims=serialize_runs)
        done = await self._database.write(enqueue, **terms, then=tell)
        if done.claimed is None and done.message_id == message.message_id:
            self._tell()
        return done

    def _store(
        self,
        session: Session,
        message: NewMessage,
        finish: Callable[[dict[str, Any], datetime], dict[str, Any]],
    ) -> tuple[str, dict[str, Any] | None]:
        """The id of the stored or found message, and the row that was stored, if any."""
        self._database.check_size("The message", message.payload)
        for _ in range(MAX_LOOKS):
            now = session.now()
            found, row = self._enqueue(session, message, now)
            if row is None:
                return found, None
            row = finish(row, now)
            if self._insert(session, row):
                return found, row
            if row["is_replaying"]:
                about = {"b_run_id": message.run_id, "now": to_ms(now)}
                session.send(self._statements.unmark_expired, about)
        raise contended(f"messages like {message.message_id!r}")

    def _insert(self, session: Session, row: dict[str, Any]) -> bool:
        """Returns: False when another transaction has stored what makes it superfluous."""
        if not session.put(self._statements.insert, tuple(row.values())):
            return False
        if row["lease_token"] is None:
            session.announce(QUEUE)
        session.prove(self._statements.get, {"message_id": row["message_id"]})
        return True

    def _is_replayed(self, session: Session, run_id: str | None, now: datetime) -> bool:
        """Whether a live lease is on a message that replays the run."""
        if run_id is None:
            return False
        until = first_due(session.one(self._statements.replaying, run_id=run_id), now)
        return until is not None and until > now

    def _enqueue(
        self, session: Session, message: NewMessage, now: datetime
    ) -> tuple[str, dict[str, Any] | None]:
        """The id of the stored or found message, and the row to store, if any."""
        s = self._statements
        if session.is_remote:
            reads = self._reads_of_new(message)
            if message.sender is not None:
                reads.append(self._holding.reading(message.sender.message_id, locked=True))
            session.read_ahead(reads)
        self._holding.check(session, message.sender)
        if (key := message.idempotency_key) is not None:
            row = session.one(s.key_holder, key=key, except_id=message.message_id)
            if row is None:
                row = session.one(s.last_completed, key=key)
                at = None if row is None else earliest(row[1:])
                if at is None or at <= now - message.key_ttl:
                    row = None
            if row is not None:
                return str(row[0]), None
        is_wake_up = message.is_wake_up
        if is_wake_up:
            row = session.one(s.pending_wake_up, run_id=message.run_id)
            if row is not None and row[2] == message.queue_name and row[1] <= to_ms(now):
                return str(row[0]), None
            # One in another queue may never be claimed; one is not due yet after a clock was set
            # back. This one is stored beside it, and stands for no other: a run has one wake-up.
            is_wake_up = row is None
        available_at = message.available_at or now + message.delay
        new = _new_row(message, now, available_at, is_wake_up=is_wake_up)
        return message.message_id, new

    def _reads_of_new(self, message: NewMessage, *, claims: bool = False) -> list[Read]:
        """All that ``_enqueue`` may read of other messages, and ``_is_replayed`` if it ``claims``.

        What others do meanwhile does not matter: an index keeps a second one of its kind away, and
        a wake-up that somebody has just taken was there when all before this call was stored.
        """
        s, reads = self._statements, list[Read]()
        if (key := message.idempotency_key) is not None:
            reads.append((s.key_holder, {"key": key, "except_id": message.message_id}))
            reads.append((s.last_completed, {"key": key}))
        if message.is_wake_up:
            reads.append((s.pending_wake_up, {"run_id": message.run_id}))
        if claims and message.replays is not None:
            reads.append((s.replaying, {"run_id": message.replays}))
        return reads

    def _terms(self, message: NewMessage, *, claims: bool = False) -> _Terms:
        """How it is written. A loss of power that undoes what a delivery sends also undoes the
        settlement that comes after it: the delivery is repeated, and sends it again."""
        sender = None if message.sender is None else message.sender.message_id
        locks = Locks(
            # Of several that replay one run only the first may be claimed.
            also=(message.replays,) if claims and message.replays is not None else (),
            key=message.idempotency_key or message.run_id or message.message_id,
            ahead=lambda _: self._reads_of_new(message, claims=claims),
            lease=self._holding.kept(sender),
        )
        return {"repeatable": message.sender is not None, "locks": locks}

    async def wake(self, wake_up: WakeUp, message: NewMessage) -> str | None:
        found = await self._database.write(
            lambda session: self._wake(session, wake_up, message),
            locks=Locks(runs=(wake_up.run_id,)),
        )
        if found is not None:
            self._tell()
        return found

    def _wake(self, session: Session, wake_up: WakeUp, message: NewMessage) -> str | None:
        for _ in range(MAX_LOOKS):
            now = session.now()
            if not self._is_missing(session, wake_up, message, now):
                return None
            due = now if wake_up.available_at is None else max(now, wake_up.available_at)
            is_wake_up = message.is_wake_up and not wake_up.beside_others
            row = _new_row(message, now, due, is_wake_up=is_wake_up)
            if self._insert(session, row):
                return message.message_id
        raise contended(f"messages like {message.message_id!r}")

    def _is_missing(
        self, session: Session, wake_up: WakeUp, message: NewMessage, now: datetime
    ) -> bool:
        """Whether what the sweep found missing still is, in a run that has not ended."""
        s = self._statements
        if session.one(s.open_run, run_id=wake_up.run_id) is None:
            return False
        if wake_up.beside_others:
            about = {"run_id": wake_up.run_id, "soon": soon(now)}
            return session.one(s.next_replay, **about) is None
        if wake_up.step_id is None:
            return session.one(s.unfinished_of_run, run_id=wake_up.run_id) is None
        step = {"run_id": wake_up.run_id, "step_id": wake_up.step_id}
        if session.one(s.open_step, **step) is None:
            return False
        if session.one(s.open_of_step, **step) is not None:
            return False
        held = session.one(s.key_holder, key=message.idempotency_key, except_id=message.message_id)
        return held is None


def _claimed(now: datetime, lease: timedelta) -> dict[str, Any]:
    """What a claim changes in the row of a new message."""
    return {
        "status": "processing",
        "deliveries": 1,
        "lease_token": new_ulid(),
        "leased_until": to_ms(now + lease),
        "claimed_at": to_ms(now),
    }


def _message_of(row: dict[str, Any]) -> Message:
    return message_of(tuple(row.values()))


def _new_row(
    message: NewMessage, now: datetime, available_at: datetime, *, is_wake_up: bool
) -> dict[str, Any]:
    """Every column of a new message, in the order of the table."""
    return {
        "message_id": message.message_id,
        "queue_name": message.queue_name,
        "payload": message.payload,
        "status": "pending",
        "attempt": 1,
        "max_attempts": message.max_attempts,
        "deliveries": 0,
        "idempotency_key": message.idempotency_key,
        "available_at": to_ms(available_at),
        "lease_token": None,
        "leased_until": None,
        "claimed_at": None,
        "run_id": message.run_id,
        "step_id": message.step_id,
        "is_wake_up": is_wake_up,
        "deployment_id": message.deployment_id,
        "headers": json_of(message.headers),
        "last_error": None,
        "created_at": to_ms(now),
        "updated_at": to_ms(now),
        "processed_at": None,
        "is_replaying": None,
    }


class _Terms(TypedDict):
    repeatable: bool
    locks: Locks
