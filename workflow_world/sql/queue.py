"""The message store on SQL: claims are SELECT then UPDATE under the write lock (design 6, 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..backend import Claim, Enqueued, Intent, Lease, NewMessage, Presence, Retention
from ..core.decision import Decision
from ..core.delivery import Settlement
from ..core.entities import Message, MessageStatus, QueueStats
from ..core.recovery import WakeUp
from ..core.values import from_ms, to_ms
from ..ids import new_ulid
from ..signals import QUEUE, run_topic
from .compiled import Row, Session, Statement
from .contention import MAX_LOOKS, contended
from .holding import Holding
from .lane import Locks
from .queue_statements import QueueStatements
from .rows import json_of, message_of, when

if TYPE_CHECKING:
    from .database import Database
    from .runs import SqlRunStore


class SqlMessageStore:
    def __init__(self, database: Database, runs: SqlRunStore) -> None:
        self._database, self._runs = database, runs
        self._statements = QueueStatements(database.tables, skips_locked=database.skips_locked)
        self._marks = database.concurrent
        self._holding = Holding(database.tables)
        self._news = True

    # --- enqueue -------------------------------------------------------------------------

    async def enqueue(self, message: NewMessage, *, repeatable: bool = False) -> str:
        def enqueue(session: Session) -> str:
            return self._store(session, message, lambda row, now: row)[0]

        found = await self._database.write(enqueue, repeatable=repeatable, locks=_about(message))
        if found == message.message_id:
            self._tell()
        return found

    async def enqueue_and_claim(
        self,
        message: NewMessage,
        *,
        lease: timedelta,
        serialize_runs: bool,
        repeatable: bool = False,
    ) -> Enqueued:
        def enqueue(session: Session) -> Enqueued:
            def if_free(row: dict[str, Any], now: datetime) -> dict[str, Any]:
                if not self._is_free(session, row, now, serialize_runs):
                    return row
                mark = self._mark(row["run_id"], row["step_id"], serialize_runs)
                return row | _claimed(now, lease) | {"is_replaying": mark}

            found, row = self._store(session, message, if_free)
            is_mine = row is not None and row["lease_token"] is not None
            return Enqueued(message_id=found, claimed=_message_of(row) if row and is_mine else None)

        done = await self._database.write(enqueue, repeatable=repeatable, locks=_about(message))
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
                session.run(self._statements.unmark_expired, about)
        raise contended(f"messages like {message.message_id!r}")

    def _insert(self, session: Session, row: dict[str, Any]) -> bool:
        """Returns: False when another transaction has stored what makes it superfluous."""
        if not session.run(self._statements.insert, tuple(row.values())):
            return False
        if row["lease_token"] is None:
            session.announce(QUEUE)
        session.prove(self._statements.get, message_id=row["message_id"])
        return True

    def _mark(self, run_id: str | None, step_id: str | None, serialize: bool) -> bool | None:
        """Whether a claim marks its run as being replayed; None: no."""
        return (self._marks and serialize and run_id is not None and step_id is None) or None

    def _is_free(
        self, session: Session, row: dict[str, Any], now: datetime, serialize: bool
    ) -> bool:
        """Whether a new message may be claimed at once."""
        if row["available_at"] > to_ms(now):
            return False
        if not serialize or row["run_id"] is None or row["step_id"] is not None:
            return True
        about = {"run_id": row["run_id"], "now": to_ms(now)}
        return session.one(self._statements.replaying, **about) is None

    def _enqueue(
        self, session: Session, message: NewMessage, now: datetime
    ) -> tuple[str, dict[str, Any] | None]:
        """The id of the stored or found message, and the row to store, if any."""
        self._holding.check(session, message.sender)
        s = self._statements
        if (key := message.idempotency_key) is not None:
            row = session.one(s.key_holder, key=key, except_id=message.message_id)
            if row is None:
                since = to_ms(now - message.key_ttl)
                row = session.one(s.recently_completed, key=key, since=since)
            if row is not None:
                return str(row[0]), None
        is_wake_up = message.is_wake_up
        if is_wake_up:
            row = session.one(s.pending_wake_up, run_id=message.run_id)
            if row is not None and row[1] <= to_ms(now):
                return str(row[0]), None
            # Only with a clock that was set back: the older one is not due yet.
            is_wake_up = row is None
        available_at = message.available_at or now + message.delay
        new = _new_row(message, now, available_at, is_wake_up=is_wake_up)
        return message.message_id, new

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
            if not self._is_missing(session, wake_up, message):
                return None
            now = session.now()
            due = now if wake_up.available_at is None else max(now, wake_up.available_at)
            row = _new_row(message, now, due, is_wake_up=message.is_wake_up)
            if self._insert(session, row):
                return message.message_id
        raise contended(f"messages like {message.message_id!r}")

    def _is_missing(self, session: Session, wake_up: WakeUp, message: NewMessage) -> bool:
        """Whether what the sweep found missing still is, in a run that has not ended."""
        s = self._statements
        if session.one(s.open_run, run_id=wake_up.run_id) is None:
            return False
        if wake_up.step_id is None:
            return session.one(s.unfinished_of_run, run_id=wake_up.run_id) is None
        step = {"run_id": wake_up.run_id, "step_id": wake_up.step_id}
        if session.one(s.open_step, **step) is None:
            return False
        if session.one(s.open_of_step, **step) is not None:
            return False
        held = session.one(s.key_holder, key=message.idempotency_key, except_id=message.message_id)
        return held is None

    # --- claim and settle ----------------------------------------------------------------

    async def claim(
        self,
        *,
        limit: int,
        lease: timedelta,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
    ) -> Claim:
        chosen = None if prefixes is None else tuple(sorted(set(prefixes)))
        if chosen == ():
            return Claim()
        if not self._news:
            # Without news of our own, one cheap look comes before the write lock.
            soonest, now = await self._database.glance(
                lambda session: (self._soonest(session, chosen), session.now())
            )
            if soonest is None or soonest > now:
                return Claim(next_due_at=soonest)
        self._news = False
        claim = await self._database.write(
            lambda session: self._claim(session, limit, lease, serialize_runs, chosen),
            repeatable=True,
        )
        self._news = self._news or bool(claim.messages)
        return claim

    def _soonest(self, session: Session, prefixes: tuple[str, ...] | None) -> datetime | None:
        row = session.one(self._statements.soonest(prefixes))
        return when(min((due for due in row or () if due is not None), default=None))

    def _claim(
        self,
        session: Session,
        limit: int,
        lease: timedelta,
        serialize: bool,
        prefixes: tuple[str, ...] | None,
    ) -> Claim:
        now, taken = session.now(), list[Message]()
        for _ in range(limit + MAX_LOOKS):
            rows = self._ready(session, now, limit - len(taken), serialize, prefixes)
            chosen = _one_replay_per_run(rows) if serialize else rows
            taken.extend(self._take(session, chosen, now, lease, serialize))
            was_late = bool(chosen) and not taken  # another claim got them all: there may be more
            if len(taken) == limit or not (was_late or len(chosen) < len(rows)):
                break
        return Claim(messages=taken, next_due_at=self._next_due(session, now, prefixes))

    def _ready(
        self,
        session: Session,
        now: datetime,
        limit: int,
        serialize: bool,
        prefixes: tuple[str, ...] | None,
    ) -> list[Row]:
        """Pending and expired ones alike, the oldest due first."""
        rows = [
            row
            for status in ("pending", "processing")
            for row in session.all(
                self._statements.ready(status, serialize=serialize, prefixes=prefixes),
                now=to_ms(now),
                row_limit=limit,
            )
        ]
        rows.sort(key=lambda row: (row[8], row[0]))
        return rows[:limit]

    def _take(
        self,
        session: Session,
        rows: Sequence[Row],
        now: datetime,
        lease: timedelta,
        serialize: bool,
    ) -> list[Message]:
        """Those of the rows that this claim gets: all of them, where it has locked them."""
        s, at, until = self._statements, to_ms(now), to_ms(now + lease)
        taken: dict[str, tuple[Row, tuple[Any, ...]]] = {}
        # By run, so that two claims never wait for each other.
        for row in sorted(rows, key=_run_and_id) if self._marks else rows:
            changes = (row[6] + 1, new_ulid(), until, at, at)
            mark = self._mark(row[12], row[13], serialize)
            if mark and row[-1] is True:
                session.run(s.unmark_expired, {"b_run_id": row[12], "now": at})
            if not self._marks:
                session.run(s.take, (*changes, row[0]))
            elif self._database.skips_locked:
                session.run(s.take_marked, (*changes, row[0], mark))
            else:
                seen = (row[6], row[8], row[9] or "", row[10] or 0)
                if not session.run(s.take_if_unchanged, (*changes, row[0], mark, *seen)):
                    continue
            taken[row[0]] = (row, changes)
        for message_id, (_, changes) in taken.items():
            session.prove(s.claimed, message_id=message_id, token=changes[1])
        return [_taken_of(*taken[row[0]]) for row in rows if row[0] in taken]

    def _next_due(
        self, session: Session, now: datetime, prefixes: tuple[str, ...] | None
    ) -> datetime | None:
        row = session.one(self._statements.next_due(prefixes), now=to_ms(now))
        return when(min((due for due in row or () if due is not None), default=None))

    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        def extend_all(session: Session) -> frozenset[str]:
            until = to_ms(session.now() + lease)
            return frozenset(
                held.message_id
                for held in leases
                if not session.run(
                    self._statements.extend,
                    b_message_id=held.message_id,
                    b_token=held.token,
                    until=until,
                )
            )

        ids = tuple(held.message_id for held in leases)
        return self._database.write_blocking(
            extend_all, repeatable=True, locks=Locks(messages=ids, key=min(ids, default=""))
        )

    async def settle(
        self, settlements: Sequence[tuple[Settlement, Intent | None]]
    ) -> Sequence[bool]:
        ended: list[str] = []
        held_back = False

        def settle_all(session: Session) -> list[bool]:
            nonlocal held_back
            ended.clear()
            settled = [self._settle(session, one, intent, ended) for one, intent in settlements]
            held_back = any(self._holds_back(session, one) for one, _ in settlements)
            if held_back or any(one.status == "pending" for one, _ in settlements):
                session.announce(QUEUE)
            return settled

        settled = await self._database.write(
            settle_all,
            repeatable=all(intent is None for _, intent in settlements),
            locks=Locks(
                runs=tuple(intent.run_id for _, intent in settlements if intent is not None),
                messages=tuple(one.message_id for one, _ in settlements),
                key=min((one.message_id for one, _ in settlements), default=""),
            ),
        )
        for run_id in ended:
            self._database.hub.notify(run_topic(run_id))
        if held_back or any(one.status == "pending" for one, _ in settlements):
            self._tell()
        return settled

    def _holds_back(self, session: Session, one: Settlement) -> bool:
        """Whether another message of the run was waiting for this replay to end."""
        if one.replayed is None:
            return False
        about = {"run_id": one.replayed, "now": to_ms(session.now())}
        return session.one(self._statements.held_back, **about) is not None

    def _settle(
        self, session: Session, one: Settlement, intent: Intent | None, ended: list[str]
    ) -> bool:
        s = self._statements
        if one.unless_key_held and session.one(
            s.key_holder, key=one.idempotency_key, except_id=one.message_id
        ):
            # Another message will wake the run: this one is done, and takes nothing from it.
            row = session.one(s.get_locked, message_id=one.message_id)
            if row is None:
                return False
            one = replace(
                one,
                status="completed",
                attempt=row[4],
                deliveries=row[6],
                idempotency_key=row[7],
                available_at=from_ms(row[8]),
            )
        # The settlement's times are this process's, the queue's may be the server's.
        ahead = to_ms(session.now()) - to_ms(self._now()) if self._database.concurrent else 0
        at, is_over = to_ms(one.updated_at) + ahead, one.status != "pending"
        values = (
            one.status,
            one.attempt,
            one.deliveries,
            one.idempotency_key,
            to_ms(one.available_at) + (0 if is_over else ahead),
            is_over,
            json_of(one.last_error),
            at,
            at if is_over else None,
            one.message_id,
            one.lease_token,
        )
        count = session.run(s.settle, values)
        if count and intent is not None:
            verdict = self._runs.decide(session, intent)
            if isinstance(verdict, Decision) and verdict.ended:
                ended.append(intent.run_id)
        return bool(count)

    async def reap(self) -> int:
        def reap(session: Session) -> int:
            now = to_ms(session.now())
            count = session.run(self._statements.free_expired, now=now, v_now=now)
            if count:
                session.announce(QUEUE)
            return count

        count = await self._database.write(reap)
        if count:
            self._tell()
        return count

    async def enter(self) -> Presence:
        return await self._database.announce(self._free_all)

    async def _free_all(self) -> int:
        count = await self._database.write(
            lambda session: session.run(self._statements.free_all, v_now=to_ms(session.now()))
        )
        if count:
            self._tell()
        return count

    # --- upkeep and inspection -----------------------------------------------------------

    async def prune(self, retention: Retention, *, limit: int) -> int:
        def rows_to_go(session: Session, statement: Statement) -> list[Row]:
            now = session.now()
            return session.all(
                statement,
                row_limit=limit,
                completed_before=to_ms(now - retention.completed),
                failed_before=to_ms(now - retention.failed),
            )

        if not await self._database.read(
            lambda session: rows_to_go(session, self._statements.prunable)
        ):
            return 0

        def prune(session: Session) -> int:
            rows = rows_to_go(session, self._statements.prunable_now)
            # By run, for their rows are going to be locked.
            for row in sorted(rows, key=lambda row: row[1] or ""):
                self._forget(session, row[0], run_id=row[1], step_id=row[2], claimed_at=row[3])
            return len(rows)

        return await self._database.write(prune)

    def _forget(
        self,
        session: Session,
        message_id: str,
        *,
        run_id: str | None,
        step_id: str | None,
        claimed_at: int | None,
    ) -> None:
        s = self._statements
        if run_id is not None and step_id is None and claimed_at is not None:
            session.run(s.keep_claim, b_run_id=run_id, claimed_at=claimed_at)
        session.run(s.delete, message_id=message_id)

    async def stats(self) -> QueueStats:
        rows = await self._database.read(lambda session: session.all(self._statements.counts))
        counts: dict[str, dict[MessageStatus, int]] = {}
        for row in rows:
            counts.setdefault(row[0], {})[row[1]] = row[2]
        return QueueStats(
            counts=counts,
            oldest_due_at=when(min((row[3] for row in rows if row[3] is not None), default=None)),
            oldest_claimed_at=when(
                min((row[4] for row in rows if row[4] is not None), default=None)
            ),
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
        statement = self._statements.page(
            status=status, run_id=run_id, queue_name=queue_name, after=after, limit=limit
        )
        rows = await self._database.read(lambda session: session.all(statement))
        return list(map(message_of, rows))

    async def get_message(self, message_id: str) -> Message | None:
        row = await self._database.read(
            lambda session: session.one(self._statements.get, message_id=message_id)
        )
        return None if row is None else message_of(row)

    async def retry(self, message_id: str) -> bool:
        s = self._statements

        def retry(session: Session) -> bool:
            row = session.one(s.get_locked, message_id=message_id)
            if row is None:
                return False
            key = row[7]
            if key is not None and session.one(s.key_holder, key=key, except_id=message_id):
                return False
            retried = session.run(s.retry, b_message_id=message_id, v_now=to_ms(session.now()))
            if retried:
                session.announce(QUEUE)
            return bool(retried)

        retried = await self._database.write(retry, locks=Locks(key=message_id))
        if retried:
            self._tell()
        return retried

    async def delete(self, message_id: str) -> bool:
        s = self._statements

        def delete(session: Session) -> bool:
            row = session.one(s.get_locked, message_id=message_id)
            if row is None or (row[10] is not None and row[10] > to_ms(session.now())):
                return False
            self._forget(session, message_id, run_id=row[12], step_id=row[13], claimed_at=row[11])
            return True

        return await self._database.write(delete, locks=Locks(key=message_id))

    def _tell(self) -> None:
        """A message of our own is ready, or may be."""
        self._news = True
        self._database.hub.notify(QUEUE)

    def _now(self) -> datetime:
        return self._database.clock.now()


def _one_replay_per_run(rows: Sequence[Row]) -> list[Row]:
    """The rows without a second workflow message of any run (``serialize_runs``)."""
    seen, chosen = set[str](), list[Row]()
    for row in rows:
        run_id, step_id = row[12], row[13]
        if run_id is not None and step_id is None:
            if run_id in seen:
                continue
            seen.add(run_id)
        chosen.append(row)
    return chosen


def _run_and_id(row: Row) -> tuple[str, str]:
    return (row[12] or "", row[0])


def _taken_of(row: Row, changes: tuple[Any, ...]) -> Message:
    claimed = list(row)
    claimed[3] = "processing"
    claimed[6], claimed[9], claimed[10], claimed[11], claimed[19] = changes
    return message_of(claimed)


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


def _about(message: NewMessage) -> Locks:
    return Locks(key=message.idempotency_key or message.run_id or message.message_id)
