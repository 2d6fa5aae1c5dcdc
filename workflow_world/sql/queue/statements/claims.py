"""The statements of a claim."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Text,
    Update,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)

from ...compiled import Statement, among, among_elsewhere, const
from ...tables import UNFINISHED
from .base import StatementsBase, begins_with

TAKEN = ("v_claim", "v_leased_until", "v_claimed_at", "v_updated_at")
TAKEN_MARKED = (*TAKEN, "v_is_replaying")
"""In the order in which the statement has them, so that no value is looked up by name."""


class ClaimStatements(StatementsBase):
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
            elsewhere = chosen
            if serialize:
                elsewhere = chosen.where(~self._replaying()).add_columns(self._stale_mark())
                chosen = chosen.where(self._may_replay())
            if self._skips_locked:
                elsewhere = elsewhere.with_for_update(skip_locked=True, of=self.t.messages)
            found = self._ready[key] = Statement(
                f"find {status} messages",
                chosen,
                postgresql=elsewhere,
                # How many are pending changes faster than any statistics of it.
                in_order=self._skips_locked and status == "pending",
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

    def _may_replay(self) -> ColumnElement[bool]:
        """No live lease on a workflow message of the run holds this one back.

        The leases are few, and are listed once: to look for each message among all of its run's
        took seconds where a run had thousands of them. A message that is due has no live lease.
        """
        other = self.t.messages.alias("other")
        replaying = select(other.c.run_id).where(
            other.c.status == const("processing"),
            other.c.leased_until > bindparam("now"),
            # What is no number is above all numbers, but for this.
            other.c.leased_until + 0 > bindparam("now"),
            other.c.step_id.is_(None),
            other.c.run_id.is_not(None),
        )
        return or_(
            self._m.run_id.is_(None),
            self._m.step_id.is_not(None),
            self._m.run_id.not_in(replaying),
        )

    def _replaying(self) -> ColumnElement[bool]:
        """The contrary, where the planner turns it into a join."""
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
        return [or_(*(begins_with(self._m.queue_name, prefix) for prefix in prefixes))]

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

    def take(self, marks: bool) -> Statement:
        """``marks``: where two claims may look at the same time, a unique index on the mark keeps
        the second replay of a run away."""
        return self._take_marked if marks else self._take

    @cached_property
    def _take(self) -> Statement:
        chosen = among(self._m.message_id, "b_message_ids")
        return Statement(
            "claim messages", self._taking(TAKEN).where(chosen), (*TAKEN, "b_message_ids")
        )

    @cached_property
    def _take_marked(self) -> Statement:
        chosen = among_elsewhere(self._m.message_id, "b_message_ids")
        taking = self._taking(TAKEN_MARKED).where(chosen)
        return Statement("claim messages", taking, (*TAKEN_MARKED, "b_message_ids"))

    @cached_property
    def take_if_unchanged(self) -> Statement:
        """Without row locks: it does not take a message that changed since it was read."""
        m = self._m
        unchanged = {
            "b_deliveries": m.deliveries,
            "b_available_at": m.available_at,
            "b_lease_token": func.coalesce(m.lease_token, const("")),
            "b_leased_until": func.coalesce(m.leased_until, 0),
        }
        taking = self._taking(TAKEN_MARKED).where(
            m.message_id == bindparam("b_message_id"),
            m.status.in_([const("pending"), const("processing")]),
            *(column == bindparam(name) for name, column in unchanged.items()),
        )
        return Statement("claim message", taking, (*TAKEN_MARKED, "b_message_id", *unchanged))

    def _taking(self, values: tuple[str, ...]) -> Update:
        """A token of its own for each message: the claim's, and the message's id."""
        m = self._m
        given: dict[str, BindParameter[Any]] = {
            name.removeprefix("v_"): bindparam(name) for name in values[1:]
        }
        return update(self.t.messages).values(
            status=const("processing"),
            deliveries=m.deliveries + literal_column("1"),
            lease_token=bindparam("v_claim", type_=Text).concat(m.message_id),
            **given,
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
