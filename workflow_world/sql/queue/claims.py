"""Claims are SELECT then UPDATE in one write transaction (design 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ...backend import Claim
from ...core.entities import Message
from ...core.values import to_ms
from ...ids import new_ulid
from ..compiled import Row, Session
from ..contention import MAX_LOOKS
from ..rows import message_of, when
from .base import QueueBase, replayed_by


class Claiming(QueueBase):
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
            mark = self._mark(replayed_by(row), serialize)
            if mark and row[-1] is True:
                session.run(s.unmark_expired, {"b_run_id": row[12], "now": at})
            if not self._marks:
                session.run(s.take, (*changes, row[0]))
            elif self._database.skips_locked:
                session.run(s.take_marked, (*changes, mark, row[0]))
            else:
                seen = (row[6], row[8], row[9] or "", row[10] or 0)
                if not session.run(s.take_if_unchanged, (*changes, mark, row[0], *seen)):
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


def _one_replay_per_run(rows: Sequence[Row]) -> list[Row]:
    """The rows without a second one that replays the same run (``serialize_runs``)."""
    seen, chosen = set[str](), list[Row]()
    for row in rows:
        run_id = replayed_by(row)
        if run_id is not None:
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
