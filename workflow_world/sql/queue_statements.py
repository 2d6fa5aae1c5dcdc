"""The statements of the message store."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from .compiled import Statement, adhoc, const, insert_or_nothing
from .tables import UNFINISHED, Tables

SETTLED = (
    "status",
    "attempt",
    "deliveries",
    "idempotency_key",
    "available_at",
    "last_error",
    "updated_at",
    "processed_at",
)
SETTLE_VALUES = (
    *(f"v_{name}" for name in SETTLED[:5]),
    "v_is_over",
    *(f"v_{name}" for name in SETTLED[5:]),
    "b_message_id",
    "b_token",
)
"""In the order in which the statement has them, so that no value is looked up by name."""


class QueueStatements:
    """``skips_locked``: a claim passes over what another one is taking."""

    def __init__(self, tables: Tables, *, skips_locked: bool = False) -> None:
        self.t, self._skips_locked = tables, skips_locked
        self._ready: dict[tuple[str, bool, tuple[str, ...] | None], Statement] = {}

    @property
    def _m(self) -> Any:
        return self.t.messages.c

    # --- enqueue -------------------------------------------------------------------------

    @cached_property
    def insert(self) -> Statement:
        messages = self.t.messages
        return Statement(
            "insert message",
            insert(messages),
            tuple(messages.columns.keys()),
            postgresql=insert_or_nothing(messages),
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
    def recently_completed(self) -> Statement:
        return Statement(
            "find recently completed",
            select(self._m.message_id)
            .where(
                self._m.idempotency_key == bindparam("key"),
                self._m.processed_at > bindparam("since"),
                self._m.status == const("completed"),
            )
            .order_by(self._m.processed_at.desc())
            .limit(1),
        )

    @cached_property
    def pending_wake_up(self) -> Statement:
        return Statement(
            "find pending wake-up",
            select(self._m.message_id, self._m.available_at).where(
                self._m.run_id == bindparam("run_id"), text("is_wake_up AND status = 'pending'")
            ),
        )

    @cached_property
    def replaying(self) -> Statement:
        """A live lease on a message that replays the run."""
        return Statement(
            "find replay of run",
            self._of_run("processing", self._m.leased_until + 0 > bindparam("now")),
        )

    @cached_property
    def held_back(self) -> Statement:
        """A message that is ready and replays the run."""
        return Statement(
            "find held back message",
            self._of_run("pending", self._m.available_at + 0 <= bindparam("now")),
        )

    def _of_run(self, status: str, when: ColumnElement[bool]) -> Select[Any]:
        m = self._m
        return (
            select(m.message_id)
            .where(
                m.run_id == bindparam("run_id"),
                text(UNFINISHED),
                m.status == const(status),
                m.step_id.is_(None),
                # An expression, not the column: the search has to go by the run.
                when,
            )
            .limit(1)
        )

    # --- claim ---------------------------------------------------------------------------

    def ready(self, status: str, *, serialize: bool, prefixes: tuple[str, ...] | None) -> Statement:
        """Messages of one status that may be claimed, with their whole rows, oldest first.

        Behind each row, on engines that need it: whether an expired lease marks the run as being
        replayed.
        """
        key = (status, serialize, prefixes)
        found = self._ready.get(key)
        if found is None:
            due = self._m.available_at if status == "pending" else self._m.leased_until
            chosen = (
                select(*self.t.messages.columns)
                .where(
                    self._m.status == const(status),
                    due <= bindparam("now"),
                    *self._prefix(prefixes),
                )
                .order_by(self._m.available_at, self._m.message_id)
                .limit(bindparam("row_limit"))
            )
            if serialize:
                chosen = chosen.where(~self._replaying())
            elsewhere = chosen.add_columns(self._stale_mark()) if serialize else chosen
            if self._skips_locked:
                elsewhere = elsewhere.with_for_update(skip_locked=True, of=self.t.messages)
            found = self._ready[key] = Statement(
                f"find {status} messages", chosen, postgresql=elsewhere
            )
        return found

    def _stale_mark(self) -> ColumnElement[bool]:
        other = self.t.messages.alias("marked")
        return exists(
            select(1).where(
                text("marked.is_replaying"),
                other.c.run_id == self._m.run_id,
                other.c.leased_until + 0 <= bindparam("now"),
                other.c.message_id != self._m.message_id,
            )
        )

    @cached_property
    def unmark_expired(self) -> Statement:
        """The run's replay has lost its lease: another one may begin."""
        m = self._m
        return Statement(
            "unmark expired replay",
            update(self.t.messages)
            .where(
                text("is_replaying"),
                m.run_id == bindparam("b_run_id"),
                m.leased_until + 0 <= bindparam("now"),
            )
            .values(is_replaying=literal_column("NULL")),
        )

    def _replaying(self) -> ColumnElement[bool]:
        """A live lease on another workflow message of the run holds this one back."""
        other = self.t.messages.alias("other")
        return exists(
            select(1).where(
                text(UNFINISHED.replace("status", "other.status", 1)),
                other.c.status == const("processing"),
                # An expression, not the column: the search has to go by the run.
                other.c.leased_until + 0 > bindparam("now"),
                other.c.run_id == self._m.run_id,
                other.c.step_id.is_(None),
                self._m.step_id.is_(None),
                other.c.message_id != self._m.message_id,
            )
        )

    def _prefix(self, prefixes: tuple[str, ...] | None) -> list[ColumnElement[bool]]:
        if prefixes is None:
            return []
        return [or_(*(func.substr(self._m.queue_name, 1, len(p)) == p for p in prefixes))]

    def soonest(self, prefixes: tuple[str, ...] | None) -> Statement:
        """The first due time of all, passed or not: of pending messages, and of leases."""
        return self._due_times("soonest", prefixes, after_now=False)

    def next_due(self, prefixes: tuple[str, ...] | None) -> Statement:
        """When the next message becomes ready that is not ready yet."""
        return self._due_times("next", prefixes, after_now=True)

    def _due_times(
        self, kind: str, prefixes: tuple[str, ...] | None, *, after_now: bool
    ) -> Statement:
        key = (kind, False, prefixes)
        found = self._ready.get(key)
        if found is None:
            times = (("pending", self._m.available_at), ("processing", self._m.leased_until))
            soonest = [
                select(func.min(due))
                .where(
                    self._m.status == const(status),
                    *self._prefix(prefixes),
                    *([due > bindparam("now")] if after_now else []),
                )
                .scalar_subquery()
                for status, due in times
            ]
            found = self._ready[key] = Statement(f"find {kind} due time", select(*soonest))
        return found

    @cached_property
    def take(self) -> Statement:
        m = self._m
        return Statement(
            "claim message",
            update(self.t.messages)
            .where(m.message_id == bindparam("b_message_id"))
            .values(
                status=const("processing"),
                deliveries=bindparam("v_deliveries"),
                lease_token=bindparam("v_lease_token"),
                leased_until=bindparam("v_leased_until"),
                claimed_at=bindparam("v_claimed_at"),
                updated_at=bindparam("v_updated_at"),
            ),
            (
                "v_deliveries",
                "v_lease_token",
                "v_leased_until",
                "v_claimed_at",
                "v_updated_at",
                "b_message_id",
            ),
        )

    @cached_property
    def take_marked(self) -> Statement:
        """``take``, where two claims may look at the same time: a unique index on the mark keeps
        the second replay of a run away."""
        m = self._m
        return Statement(
            "claim message",
            update(self.t.messages)
            .where(m.message_id == bindparam("b_message_id"))
            .values(
                status=const("processing"),
                deliveries=bindparam("v_deliveries"),
                lease_token=bindparam("v_lease_token"),
                leased_until=bindparam("v_leased_until"),
                claimed_at=bindparam("v_claimed_at"),
                updated_at=bindparam("v_updated_at"),
                is_replaying=bindparam("v_is_replaying"),
            ),
            (*self.take.names, "v_is_replaying"),
        )

    @cached_property
    def take_if_unchanged(self) -> Statement:
        """``take_marked`` without row locks: it takes nothing that changed since it was read."""
        m = self._m
        return Statement(
            "claim message",
            update(self.t.messages)
            .where(
                m.message_id == bindparam("b_message_id"),
                m.status.in_([const("pending"), const("processing")]),
                m.deliveries == bindparam("b_deliveries"),
                m.available_at == bindparam("b_available_at"),
                func.coalesce(m.lease_token, const("")) == bindparam("b_lease_token"),
                func.coalesce(m.leased_until, 0) == bindparam("b_leased_until"),
            )
            .values(
                status=const("processing"),
                deliveries=bindparam("v_deliveries"),
                lease_token=bindparam("v_lease_token"),
                leased_until=bindparam("v_leased_until"),
                claimed_at=bindparam("v_claimed_at"),
                updated_at=bindparam("v_updated_at"),
                is_replaying=bindparam("v_is_replaying"),
            ),
            (
                *self.take_marked.names,
                "b_deliveries",
                "b_available_at",
                "b_lease_token",
                "b_leased_until",
            ),
        )

    @cached_property
    def claimed(self) -> Statement:
        m = self._m
        return Statement(
            "find claimed message",
            select(m.message_id).where(
                m.message_id == bindparam("message_id"), m.lease_token == bindparam("token")
            ),
        )

    # --- leases --------------------------------------------------------------------------

    @cached_property
    def extend(self) -> Statement:
        return Statement(
            "extend lease",
            update(self.t.messages).where(*self._leased()).values(leased_until=bindparam("until")),
        )

    @cached_property
    def settle(self) -> Statement:
        settled = (
            update(self.t.messages)
            .where(*self._leased())
            .values({name: bindparam(f"v_{name}") for name in SETTLED})
            .values(
                lease_token=literal_column("NULL"),
                leased_until=literal_column("NULL"),
                # Back in the queue it is delayed, or charged: no longer as good as a new one.
                is_wake_up=and_(self._m.is_wake_up, bindparam("v_is_over", type_=Boolean)),
            )
        )
        return Statement(
            "settle message",
            settled,
            SETTLE_VALUES,
            postgresql=settled.values(is_replaying=literal_column("NULL")),
        )

    def _leased(self) -> tuple[ColumnElement[bool], ...]:
        return (
            self._m.message_id == bindparam("b_message_id"),
            self._m.lease_token == bindparam("b_token"),
        )

    @cached_property
    def free_expired(self) -> Statement:
        expired = self._m.leased_until <= bindparam("now")
        elsewhere = self._free().where(expired)
        if self._skips_locked:
            # What somebody is just taking, or settling, is not to be waited for.
            m = self.t.messages.alias("expired")
            found = (
                select(m.c.message_id)
                .where(m.c.status == const("processing"), m.c.leased_until <= bindparam("now"))
                .with_for_update(skip_locked=True)
            )
            elsewhere = self._free().where(self._m.message_id.in_(found), expired)
        return Statement(
            "free expired leases",
            self._free().where(expired),
            postgresql=elsewhere.values(is_replaying=literal_column("NULL")),
        )

    @cached_property
    def free_all(self) -> Statement:
        return Statement(
            "free all leases",
            self._free(),
            postgresql=self._free().values(is_replaying=literal_column("NULL")),
        )

    def _free(self) -> Any:
        return (
            update(self.t.messages)
            .where(self._m.status == const("processing"))
            .values(
                status=const("pending"),
                lease_token=None,
                leased_until=None,
                is_wake_up=False,
                updated_at=bindparam("v_now"),
            )
        )

    # --- upkeep and inspection -----------------------------------------------------------

    @cached_property
    def unfinished_of_run(self) -> Statement:
        return Statement(
            "find unfinished of run",
            select(self._m.message_id)
            .where(self._m.run_id == bindparam("run_id"), text(UNFINISHED))
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
