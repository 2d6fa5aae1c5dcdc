"""The statements that store a message, and look for what makes it superfluous."""

from __future__ import annotations

from functools import cached_property

from sqlalchemy import and_, bindparam, func, insert, select, text

from ...compiled import Statement, const, insert_or_nothing
from ...replays import will_replay
from ...tables import UNFINISHED
from .base import StatementsBase


class EnqueueStatements(StatementsBase):
    @cached_property
    def insert(self) -> Statement:
        messages = self.t.messages
        return Statement(
            "insert message",
            insert(messages),
            tuple(messages.columns.keys()),
            postgresql=insert_or_nothing(messages),
            row=("message_id",),
        )

    @cached_property
    def key_holder(self) -> Statement:
        """The unfinished message with a key; ``except_id`` is left out of the search."""
        return Statement(
            "find key holder",
            select(self._m.message_id).where(
                self._m.idempotency_key == bindparam("key"),
                self._m.message_id != bindparam("except_id"),
                text(UNFINISHED),
            ),
        )

    @cached_property
    def last_completed(self) -> Statement:
        """The last message with a key that was completed, and when that was."""
        m = self._m
        return Statement(
            "find last completed",
            select(m.message_id, m.processed_at)
            .where(
                m.idempotency_key == bindparam("key"),
                m.processed_at.is_not(None),
                m.status == const("completed"),
            )
            .order_by(m.processed_at.desc())
            .limit(1),
        )

    @cached_property
    def pending_wake_up(self) -> Statement:
        return Statement(
            "find pending wake-up",
            select(self._m.message_id, self._m.available_at, self._m.queue_name).where(
                self._m.run_id == bindparam("run_id"), text("is_wake_up AND status = 'pending'")
            ),
        )

    @cached_property
    def replaying(self) -> Statement:
        """Until when a message that replays the run is leased."""
        return Statement("find replay of run", self._of_run("processing", func.max, "leased_until"))

    @cached_property
    def unfinished_of_run(self) -> Statement:
        return Statement(
            "find unfinished of run",
            select(self._m.message_id)
            .where(self._m.run_id == bindparam("run_id"), text(UNFINISHED))
            .limit(1),
        )

    @cached_property
    def next_replay(self) -> Statement:
        """A message that is going to replay the run soon."""
        return Statement(
            "find next replay of run",
            select(self._m.message_id)
            .where(
                self._m.run_id == bindparam("run_id"),
                text(UNFINISHED),
                will_replay(self.t.messages),
            )
            .limit(1),
        )

    @cached_property
    def open_of_step(self) -> Statement:
        """An unfinished or failed message of a step."""
        m = self._m
        mine = and_(
            m.run_id == bindparam("run_id"),
            m.run_id.is_not(None),
            m.step_id == bindparam("step_id"),
        )
        failed = select(m.message_id).where(
            mine,
            m.processed_at.is_not(None),
            # An expression, not the column: the search has to go by the run.
            m.status.concat("") == const("failed"),
        )
        unfinished = select(m.message_id).where(mine, text(UNFINISHED))
        return Statement("find messages of step", unfinished.union_all(failed))

    @cached_property
    def open_run(self) -> Statement:
        runs = self.t.runs
        return Statement(
            "find open run",
            select(runs.c.run_id)
            .where(runs.c.run_id == bindparam("run_id"), runs.c.completed_at.is_(None))
            .with_for_update(),
        )

    @cached_property
    def open_step(self) -> Statement:
        steps = self.t.steps
        return Statement(
            "find open step",
            select(steps.c.step_id).where(
                steps.c.run_id == bindparam("run_id"),
                steps.c.step_id == bindparam("step_id"),
                steps.c.completed_at.is_(None),
            ),
        )
