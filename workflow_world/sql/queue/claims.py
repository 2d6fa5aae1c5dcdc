"""Claims are SELECT then UPDATE in one write transaction (design 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ...backend import Claim, Taken
from ...core.entities import Message
from ...core.values import to_ms
from ...ids import new_ulid
from ..compiled import Read, Row, Session
from ..contention import MAX_LOOKS
from ..rows import claimed_message_of
from .base import QueueBase, first_due, replayed_by

_CLAIMED: Final = ("pending", "processing")
"""What may be ready: messages that wait, and those whose lease has expired."""


class Claiming(QueueBase):
    async def claim(
        self,
        *,
        limit: int,
        lease: timedelta,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
        taken: Taken | None = None,
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

        def tell(claim: Claim) -> None:
            if taken is not None and claim.messages:
                taken(claim.messages)

        self._news = False
        claim = await self._database.write(
            lambda session: self._claim(session, limit, lease, serialize_runs, chosen),
            repeatable=True,
            then=tell,
        )
        self._news = self._news or bool(claim.messages)
        return claim

    def _soonest(self, session: Session, prefixes: tuple[str, ...] | None) -> datetime | None:
        """An idle worker asks ten times a second, mostly for what it knows."""
        version = session.version()
        known = self._looked
        if known is not None and version is not None and known[:2] == (version, prefixes):
            return known[2]
        soonest = first_due(session.one(self._statements.soonest(prefixes)), session.now())
        self._looked = version, prefixes, soonest
        return soonest

    def _claim(
        self,
        session: Session,
        limit: int,
        lease: timedelta,
        serialize: bool,
        prefixes: tuple[str, ...] | None,
    ) -> Claim:
        now, taken = session.now(), list[Message]()
        if session.is_remote:
            session.read_ahead(self._reads_of_claim(now, limit, serialize, prefixes))
        next_due = self._next_due(session, now, prefixes)
        for _ in range(limit + MAX_LOOKS):
            rows = self._ready(session, now, limit - len(taken), serialize, prefixes)
            chosen = _one_replay_per_run(rows) if serialize else rows
            taken.extend(self._take(session, chosen, now, lease, serialize))
            was_late = bool(chosen) and not taken  # another claim got them all: there may be more
            if len(taken) == limit or not (was_late or len(chosen) < len(rows)):
                break
        if taken:
            next_due = min(next_due or now + lease, now + lease)
        return Claim(messages=taken, next_due_at=next_due)

    def _reads_of_claim(
        self, now: datetime, limit: int, serialize: bool, prefixes: tuple[str, ...] | None
    ) -> list[Read]:
        """All that a claim reads, unless it looks again."""
        s, about = self._statements, {"now": to_ms(now), "row_limit": limit}
        ready = (s.ready(one, serialize=serialize, prefixes=prefixes) for one in _CLAIMED)
        return [*((one, about) for one in ready), (s.next_due(prefixes), {"now": to_ms(now)})]

    def _ready(
        self,
        session: Session,
        now: datetime,
        limit: int,
        serialize: bool,
        prefixes: tuple[str, ...] | None,
    ) -> list[Row]:
        """Pending and expired ones alike, the oldest due first."""
        about = {"now": to_ms(now), "row_limit": limit}
        statements = [
            self._statements.ready(status, serialize=serialize, prefixes=prefixes)
            for status in _CLAIMED
        ]
        session.read_ahead([(statement, about) for statement in statements])
        rows = [row for statement in statements for row in session.all(statement, **about)]
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
        if not rows:
            return []
        at, claim = to_ms(now), new_ulid()
        changes = (f"{claim}.", to_ms(now + lease), at, at)
        marks = [self._mark(replayed_by(row), serialize) for row in rows]
        stale = (row[12] for row, mark in zip(rows, marks, strict=True) if mark and row[-1] is True)
        for run_id in sorted(stale):  # so that two claims never wait for each other
            session.send(self._statements.unmark_expired, {"b_run_id": run_id, "now": at})
        if self._marks and not self._database.skips_locked:
            rows = self._take_unchanged(session, rows, changes, serialize)
        else:
            for mark in {*marks}:
                ids = [row[0] for row, one in zip(rows, marks, strict=True) if one is mark]
                values = (*changes, mark) if self._marks else changes
                session.send(self._statements.take(self._marks), (*values, session.listed(ids)))
        if rows:
            token = changes[0] + rows[0][0]
            about = {"message_id": rows[0][0], "token": token}
            # Then another worker may have it, with another token.
            session.prove(self._statements.claimed, about, until=now + lease)
        return [_taken_of(row, changes) for row in rows]

    def _take_unchanged(
        self,
        session: Session,
        rows: Sequence[Row],
        changes: tuple[str, int, int, int],
        serialize: bool,
    ) -> list[Row]:
        """Those of the rows that no other claim has taken meanwhile."""
        taken = set[str]()
        # By run, so that two claims never wait for each other.
        for row in sorted(rows, key=lambda row: (row[12] or "", row[0])):
            mark = self._mark(replayed_by(row), serialize)
            seen = (row[6], row[8], row[9] or "", row[10] or 0)
            if session.run(self._statements.take_if_unchanged, (*changes, mark, row[0], *seen)):
                taken.add(row[0])
        return [row for row in rows if row[0] in taken]

    def _next_due(
        self, session: Session, now: datetime, prefixes: tuple[str, ...] | None
    ) -> datetime | None:
        return first_due(session.one(self._statements.next_due(prefixes), now=to_ms(now)), now)


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


def _taken_of(row: Row, changes: tuple[str, int, int, int]) -> Message:
    claimed = list(row)
    claimed[3] = "processing"
    claimed[6] = row[6] + 1 if type(row[6]) is int else row[6]  # which is damaged, then
    claimed[9] = changes[0] + row[0]
    _, claimed[10], claimed[11], claimed[19] = changes
    return claimed_message_of(claimed)
