"""The statements that prune, count, list and put back messages."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import Select, and_, bindparam, case, delete, func, or_, select, update

from ....backend import OLDEST
from ...compiled import Statement, adhoc, const
from .base import StatementsBase, begins_with


class UpkeepStatements(StatementsBase):
    @cached_property
    def prunable(self) -> Statement:
        return Statement("find prunable messages", self._prunable())

    @cached_property
    def prunable_now(self) -> Statement:
        """``prunable``, and nobody makes them unfinished again meanwhile."""
        chosen = self._prunable().with_for_update(skip_locked=self._skips_locked)
        return Statement("find prunable messages", chosen)

    def _prunable(self) -> Select[*tuple[Any, ...]]:
        m = self._m
        return (
            select(m.message_id, m.run_id, m.step_id, m.claimed_at)
            .where(
                or_(
                    and_(
                        m.status == const("completed"),
                        m.processed_at.is_not(None),
                        m.processed_at < bindparam("completed_before"),
                    ),
                    and_(
                        m.status == const("failed"),
                        m.processed_at.is_not(None),
                        m.processed_at < bindparam("failed_before"),
                    ),
                )
            )
            .limit(bindparam("row_limit"))
        )

    @cached_property
    def keep_claim(self) -> Statement:
        """Before the message of a run's last claim goes, the run remembers it."""
        runs = self.t.runs
        return Statement(
            "keep last claim",
            update(runs)
            .where(
                runs.c.run_id == bindparam("b_run_id"),
                runs.c.completed_at.is_(None),
                func.coalesce(runs.c.last_claim_at, 0) < bindparam("claimed_at"),
            )
            .values(last_claim_at=bindparam("claimed_at")),
        )

    @cached_property
    def delete(self) -> Statement:
        return Statement(
            "delete message",
            delete(self.t.messages).where(self._m.message_id == bindparam("message_id")),
        )

    @cached_property
    def get(self) -> Statement:
        return Statement(
            "read message",
            select(*self.t.messages.columns).where(self._m.message_id == bindparam("message_id")),
        )

    @cached_property
    def get_locked(self) -> Statement:
        return Statement(
            "read message",
            select(*self.t.messages.columns)
            .where(self._m.message_id == bindparam("message_id"))
            .with_for_update(),
        )

    @cached_property
    def retry(self) -> Statement:
        return Statement(
            "retry message",
            update(self.t.messages)
            .where(
                self._m.message_id == bindparam("b_message_id"),
                self._m.status.in_([const("completed"), const("failed")]),
            )
            .values(
                status=const("pending"),
                attempt=1,
                deliveries=0,
                is_wake_up=False,
                available_at=bindparam("v_now"),
                updated_at=bindparam("v_now"),
                processed_at=None,
            ),
        )

    @cached_property
    def counts(self) -> Statement:
        m = self._m
        oldest_due = func.min(case((m.status == const("pending"), m.available_at)))
        oldest_claim = func.min(case((m.status == const("processing"), m.claimed_at)))
        return Statement(
            "count messages",
            select(m.queue_name, m.status, func.count(), oldest_due, oldest_claim).group_by(
                m.queue_name, m.status
            ),
        )

    def unserved(self, prefixes: tuple[str, ...]) -> Statement:
        """Queues outside of the prefixes, of the messages that fell due first, and when."""
        m, key = self._m, ("unserved", False, prefixes)
        found = self._ready.get(key)
        if found is None:
            oldest = (
                select(m.queue_name, m.available_at)
                .where(m.status == const("pending"), m.available_at <= bindparam("before"))
                .order_by(m.available_at)
                .limit(OLDEST)
                .subquery()
            )
            name = oldest.c.queue_name
            chosen = (
                select(name, func.min(oldest.c.available_at))
                .where(*(~begins_with(name, prefix) for prefix in prefixes))
                .group_by(name)
            )
            found = self._ready[key] = Statement("find unserved queues", chosen, in_order=True)
        return found

    def page(
        self,
        *,
        status: str | None,
        run_id: str | None,
        queue_name: str | None,
        after: str | None,
        limit: int,
    ) -> Statement:
        chosen: Select[Any] = select(*self.t.messages.columns)
        for column, value in (
            (self._m.status, status),
            (self._m.run_id, run_id),
            (self._m.queue_name, queue_name),
        ):
            if value is not None:
                chosen = chosen.where(column == value)
        if after is not None:
            chosen = chosen.where(self._m.message_id > after)
        return adhoc("list messages", chosen.order_by(self._m.message_id).limit(limit))
