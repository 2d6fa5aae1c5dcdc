"""Finished messages go, or come back; all of them can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ...backend import Retention
from ...core.entities import Message, MessageStatus, QueueStats
from ...core.values import from_ms, to_ms
from ...signals import QUEUE
from ..compiled import Row, Session, Statement
from ..lane import Locks
from ..rows import message_of
from .base import QueueBase, earliest


class Upkeep(QueueBase):
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
            session.send(s.keep_claim, b_run_id=run_id, claimed_at=claimed_at)
        session.send(s.delete, message_id=message_id)

    async def unserved(
        self, *, prefixes: Sequence[str], overdue: timedelta
    ) -> Mapping[str, datetime]:
        statement = self._statements.unserved(tuple(prefixes))
        rows = await self._database.read(
            lambda session: session.all(statement, before=to_ms(session.now() - overdue))
        )
        return {name: from_ms(due) for name, due in rows}

    async def stats(self) -> QueueStats:
        rows = await self._database.read(lambda session: session.all(self._statements.counts))
        counts: dict[str, dict[MessageStatus, int]] = {}
        for row in rows:
            counts.setdefault(row[0], {})[row[1]] = row[2]
        return QueueStats(
            counts=counts,
            oldest_due_at=earliest([row[3] for row in rows]),
            oldest_claimed_at=earliest([row[4] for row in rows]),
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
            if row is None:
                return False
            # A row that holds something else there is damaged, and this is how to be rid of it.
            if type(row[10]) is int and row[10] > to_ms(session.now()):
                return False
            self._forget(session, message_id, run_id=row[12], step_id=row[13], claimed_at=row[11])
            return True

        return await self._database.write(delete, locks=Locks(key=message_id))
