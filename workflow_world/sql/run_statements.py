"""The statements of the run store, in the order in which a write uses them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import (
    ScalarSelect,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from ..core.decision import RUN_CHANGES, STEP_CHANGES
from .compiled import Statement, adhoc, insert_or_nothing, one_of
from .damage import RUN_WIDTH
from .tables import ONCE, UNFINISHED, Tables

PAYLOADS = frozenset({"input", "output"})
"""Columns that are left unread where no payloads are wanted (spec 3.4)."""


def columns(table: Table, *, payloads: bool = True, width: int | None = None) -> list[Any]:
    """The table's columns in their order; unwanted payloads read as NULL."""
    chosen = list(table.columns)[:width]
    if payloads:
        return chosen
    return [
        literal_column("NULL") if column.name in PAYLOADS | {"metadata"} else column
        for column in chosen
    ]


class RunStatements:
    def __init__(self, tables: Tables) -> None:
        self.t = tables
        self._related: dict[tuple[str, ...], Statement] = {}

    # --- facts ---------------------------------------------------------------------------

    @cached_property
    def run(self) -> Statement:
        return Statement("load run", self._run_with_last(payloads=True))

    @cached_property
    def run_head(self) -> Statement:
        return Statement("load run head", self._run_with_last(payloads=False))

    def _run_with_last(self, *, payloads: bool) -> Select[*tuple[Any, ...]]:
        """A run and the newest event of its log, in one statement."""
        runs, events = self.t.runs, self.t.events
        newest = (
            select(func.max(events.c.position))
            .where(events.c.run_id == runs.c.run_id)
            .correlate(runs)
            .scalar_subquery()
        )
        last = events.alias("last_event")
        return (
            select(
                *columns(runs, payloads=payloads, width=RUN_WIDTH),
                last.c.position,
                last.c.event_id,
                last.c.created_at,
            )
            .select_from(
                runs.outerjoin(
                    last, and_(last.c.run_id == runs.c.run_id, last.c.position == newest)
                )
            )
            .where(runs.c.run_id == bindparam("run_id"))
        )

    @cached_property
    def step(self) -> Statement:
        steps = self.t.steps
        return Statement(
            "load step",
            select(*steps.columns).where(
                steps.c.run_id == bindparam("run_id"), steps.c.step_id == bindparam("step_id")
            ),
        )

    @cached_property
    def hook(self) -> Statement:
        hooks = self.t.hooks
        return Statement(
            "load hook",
            select(*hooks.columns).where(
                hooks.c.run_id == bindparam("run_id"), hooks.c.hook_id == bindparam("hook_id")
            ),
        )

    @cached_property
    def token_holder(self) -> Statement:
        hooks = self.t.hooks
        return Statement(
            "load token holder",
            select(*hooks.columns).where(hooks.c.token == bindparam("token")),
        )

    def related(self, event_types: tuple[str, ...]) -> Statement:
        """A run's single events with one correlation id, through the index that makes them so.

        Not in order: asked for one, SQLite prefers to walk the whole log.
        """
        found = self._related.get(event_types)
        if found is None:
            events = self.t.events
            found = self._related[event_types] = Statement(
                "load related events",
                select(*events.columns).where(
                    events.c.run_id == bindparam("run_id"),
                    events.c.correlation_id == bindparam("correlation_id"),
                    events.c.event_type.in_(one_of(event_types)),
                    text(ONCE),
                ),
            )
        return found

    @cached_property
    def resumed(self) -> Statement:
        events = self.t.events
        return Statement(
            "load resume",
            select(*events.columns).where(
                events.c.run_id == bindparam("run_id"),
                events.c.resume_id == bindparam("resume_id"),
            ),
        )

    @cached_property
    def last_claim(self) -> Statement:
        """Kept by the run, of finished messages, and of unfinished ones: each has its index."""
        runs, m = self.t.runs, self.t.messages

        def newest(which: str) -> ScalarSelect[Any]:
            chosen = select(func.max(m.c.claimed_at)).where(
                m.c.run_id == bindparam("run_id"), m.c.step_id.is_(None), text(which)
            )
            return chosen.scalar_subquery()

        return Statement(
            "find last claim",
            select(
                runs.c.last_claim_at, newest("processed_at IS NOT NULL"), newest(UNFINISHED)
            ).where(runs.c.run_id == bindparam("run_id")),
        )

    # --- decisions -----------------------------------------------------------------------

    @cached_property
    def lock(self) -> Statement:
        """Other writers of the run wait until this transaction ends."""
        runs = self.t.runs
        return Statement(
            "lock run",
            select(runs.c.run_id).where(runs.c.run_id == bindparam("run_id")).with_for_update(),
        )

    @cached_property
    def insert_run(self) -> Statement:
        runs = self.t.runs
        return Statement(
            "insert run",
            insert(runs),
            tuple(runs.columns.keys()),
            postgresql=insert_or_nothing(runs),
            row=("run_id",),
        )

    @cached_property
    def update_run(self) -> Statement:
        runs = self.t.runs
        return Statement(
            "update run",
            update(runs)
            .where(runs.c.run_id == bindparam("run_id"))
            .values({name: bindparam(f"v_{name}") for name in RUN_CHANGES}),
            (*(f"v_{name}" for name in RUN_CHANGES), "run_id"),
            row=("run_id",),
        )

    @cached_property
    def insert_step(self) -> Statement:
        steps = self.t.steps
        return Statement(
            "insert step", insert(steps), tuple(steps.columns.keys()), row=("run_id", "step_id")
        )

    @cached_property
    def update_step(self) -> Statement:
        steps = self.t.steps
        return Statement(
            "update step",
            update(steps)
            .where(steps.c.run_id == bindparam("run_id"), steps.c.step_id == bindparam("step_id"))
            .values({name: bindparam(f"v_{name}") for name in STEP_CHANGES}),
            (*(f"v_{name}" for name in STEP_CHANGES), "run_id", "step_id"),
            row=("run_id", "step_id"),
        )

    @cached_property
    def insert_event(self) -> Statement:
        events = self.t.events
        names = tuple(events.columns.keys())
        return Statement("insert event", insert(events), names, row=("run_id", "position"))

    @cached_property
    def insert_hook(self) -> Statement:
        hooks = self.t.hooks
        return Statement("insert hook", insert(hooks), postgresql=insert_or_nothing(hooks))

    @cached_property
    def delete_hook(self) -> Statement:
        hooks = self.t.hooks
        return Statement(
            "delete hook",
            delete(hooks).where(
                hooks.c.run_id == bindparam("run_id"), hooks.c.hook_id == bindparam("hook_id")
            ),
        )

    @cached_property
    def close_wait(self) -> Statement:
        events = self.t.events
        return Statement(
            "close wait",
            update(events)
            .where(
                events.c.run_id == bindparam("b_run_id"),
                events.c.position == bindparam("b_position"),
            )
            .values(due_at=None),
        )

    @cached_property
    def delete_hooks(self) -> Statement:
        hooks = self.t.hooks
        return Statement(
            "delete hooks of run", delete(hooks).where(hooks.c.run_id == bindparam("run_id"))
        )

    @cached_property
    def close_waits(self) -> Statement:
        events = self.t.events
        return Statement(
            "close waits of run",
            update(events)
            .where(events.c.run_id == bindparam("b_run_id"), events.c.due_at.is_not(None))
            .values(due_at=None),
        )

    # --- reads ---------------------------------------------------------------------------

    @cached_property
    def newest_step(self) -> Statement:
        steps = self.t.steps
        return Statement(
            "read newest step",
            select(*steps.columns)
            .where(steps.c.step_id == bindparam("step_id"))
            .order_by(steps.c.created_at.desc(), steps.c.run_id.desc())
            .limit(1),
        )

    @cached_property
    def newest_hook(self) -> Statement:
        hooks = self.t.hooks
        return Statement(
            "read newest hook",
            select(*hooks.columns)
            .where(hooks.c.hook_id == bindparam("hook_id"))
            .order_by(hooks.c.created_at.desc(), hooks.c.run_id.desc())
            .limit(1),
        )

    @cached_property
    def event(self) -> Statement:
        events = self.t.events
        return Statement(
            "read event",
            select(*events.columns).where(
                events.c.run_id == bindparam("run_id"),
                events.c.event_id == bindparam("event_id"),
            ),
        )

    @cached_property
    def stored_event(self) -> Statement:
        """This event, and not one of somebody else's at the same place, for its id may be equal."""
        e = self.t.events.c
        same = (e.run_id, e.position, e.event_id, e.event_type, e.created_at)
        maybe = (e.correlation_id, e.event_data)
        return Statement(
            "find stored event",
            select(e.position).where(
                *(column == bindparam(column.name) for column in same),
                *(column.is_not_distinct_from(bindparam(column.name)) for column in maybe),
            ),
        )

    @cached_property
    def log(self) -> Statement:
        """The hottest read: a run's log from behind a position."""
        events = self.t.events
        return Statement(
            "read log",
            select(*events.columns)
            .where(
                events.c.run_id == bindparam("run_id"),
                events.c.position > bindparam("position"),
            )
            .order_by(events.c.position)
            .limit(bindparam("row_limit")),
            in_order=True,
        )

    def runs_by_id(self, run_ids: list[str]) -> Statement:
        runs = self.t.runs
        chosen = select(*columns(runs, width=RUN_WIDTH))
        return adhoc("read runs", chosen.where(runs.c.run_id.in_(run_ids)))
