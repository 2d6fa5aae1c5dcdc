"""The statements that extend, settle and free what is claimed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    update,
)

from ...compiled import Statement, among, among_elsewhere, const
from .base import StatementsBase

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


class LeaseStatements(StatementsBase):
    @cached_property
    def held_back(self) -> Statement:
        """When the first message is ready that replays the run."""
        return Statement(
            "find held back message", self._of_run("pending", func.min, "available_at")
        )

    @cached_property
    def extend(self) -> Statement:
        """Never to an earlier time: a clock that was set back, and ahead again, ends no lease."""
        until: ColumnElement[Any] = bindparam("until")
        held = self._m.leased_until
        longer = case((held > until, held), else_=until)
        return Statement(
            "extend lease",
            update(self.t.messages).where(*self._leased()).values(leased_until=longer),
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

    @cached_property
    def held(self) -> Statement:
        """The tokens of those of the leases that are live, and stay so."""
        chosen = select(self._m.lease_token)
        return Statement(
            "find held messages",
            chosen.where(*self._leases(among)),
            # Several are locked before, in the order of their ids.
            postgresql=chosen.where(*self._leases(among_elsewhere)).with_for_update(),
        )

    @cached_property
    def end(self) -> Statement:
        """Settles messages of which nothing but the status and its times changes."""
        ended = update(self.t.messages).values(
            status=const("completed"),
            lease_token=literal_column("NULL"),
            leased_until=literal_column("NULL"),
            updated_at=bindparam("v_updated_at"),
            processed_at=bindparam("v_processed_at"),
        )
        return Statement(
            "end messages",
            ended.where(*self._leases(among)),
            ("v_updated_at", "v_processed_at", "b_message_ids", "b_tokens"),
            postgresql=ended.values(is_replaying=literal_column("NULL")).where(
                *self._leases(among_elsewhere)
            ),
        )

    def _leases(self, among: Callable[..., ColumnElement[bool]]) -> tuple[ColumnElement[bool], ...]:
        """A token is that of one message only."""
        m = self._m
        return among(m.message_id, "b_message_ids"), among(m.lease_token, "b_tokens")

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
