"""What the recovery sweep reads: runs that may lack a wake-up, and what is known of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, select, text

from ..core.events import WAKING_EVENTS
from ..core.recovery import RunFacts, StrandedStep
from ..core.values import from_ms
from .compiled import Row, Session, Statement, adhoc, const, one_of
from .damage import RUN_WIDTH, UNREADABLE, checked
from .replays import soon, will_replay
from .rows import run_of, when
from .run_statements import columns
from .tables import UNFINISHED, Tables

logger = logging.getLogger("workflow_world.sql")


class StrandedReader:
    def __init__(self, tables: Tables) -> None:
        self.t = tables

    def read(
        self, session: Session, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        """See ``RunStore.stranded``: two statements a page."""
        rows = session.all(
            self.candidates, after=after or "", soon=soon(session.now()), row_limit=limit
        )
        if not rows:
            return (), None
        steps: dict[str, list[StrandedStep]] = {}
        damaged: set[str] = set()
        for row in session.all(self.steps_of([row[0] for row in rows])):
            try:
                steps.setdefault(row[0], []).append(_step(row))
            except UNREADABLE as error:
                damaged.add(row[0])
                _pass_over(row[0], error)
        facts: list[RunFacts] = []
        for row in rows:
            if row[0] in damaged:
                continue
            try:
                facts.append(_facts(row, steps.get(row[0], ())))
            except UNREADABLE as error:
                _pass_over(row[0], error)
        return facts, rows[-1][0] if len(rows) == limit else None

    @cached_property
    def candidates(self) -> Statement:
        runs, events, messages, hooks = self.t.runs, self.t.events, self.t.messages, self.t.hooks
        of_run = and_(messages.c.run_id == runs.c.run_id, text(_of(messages.name)))
        unfinished = exists(select(1).where(of_run))
        replay = exists(select(1).where(of_run, will_replay(messages)))
        hook = exists(select(1).where(hooks.c.run_id == runs.c.run_id))
        return Statement(
            "read stranded runs",
            select(
                *columns(runs, payloads=False, width=RUN_WIDTH),
                runs.c.last_claim_at,
                unfinished,
                select(func.max(messages.c.claimed_at))
                .where(
                    messages.c.run_id == runs.c.run_id,
                    messages.c.processed_at.is_not(None),
                    messages.c.step_id.is_(None),
                )
                .scalar_subquery(),
                # From the end, for a log may be long. Its times never go back.
                select(events.c.created_at)
                .where(
                    events.c.run_id == runs.c.run_id,
                    events.c.event_type.in_(one_of(WAKING_EVENTS)),
                )
                .order_by(events.c.position.desc())
                .limit(1)
                .scalar_subquery(),
                select(func.min(events.c.due_at))
                .where(events.c.run_id == runs.c.run_id, events.c.due_at.is_not(None))
                .scalar_subquery(),
                hook,
                exists(select(1).where(self._open_step())),
                replay,
                select(func.max(messages.c.claimed_at))
                .where(of_run, messages.c.step_id.is_(None))
                .scalar_subquery(),
            )
            .where(
                runs.c.completed_at.is_(None),
                runs.c.run_id > bindparam("after"),
                ~unfinished
                | (hook & ~replay)
                | exists(select(1).where(self._open_step(), self._abandoned())),
            )
            .order_by(runs.c.run_id)
            .limit(bindparam("row_limit")),
        )

    def steps_of(self, run_ids: list[str]) -> Statement:
        steps = self.t.steps
        return adhoc(
            "read stranded steps",
            select(
                steps.c.run_id,
                steps.c.step_id,
                steps.c.step_name,
                steps.c.retry_after,
                steps.c.updated_at,
            )
            .where(steps.c.run_id.in_(run_ids), steps.c.completed_at.is_(None), self._abandoned())
            .order_by(steps.c.run_id, steps.c.step_id),
        )

    def _open_step(self) -> ColumnElement[bool]:
        steps = self.t.steps
        return and_(steps.c.run_id == self.t.runs.c.run_id, steps.c.completed_at.is_(None))

    def _abandoned(self) -> ColumnElement[bool]:
        """The step has neither an unfinished nor a failed message."""
        steps, messages = self.t.steps, self.t.messages
        mine = and_(messages.c.run_id == steps.c.run_id, messages.c.step_id == steps.c.step_id)
        unfinished = exists(select(1).where(mine, text(_of(messages.name))))
        failed = exists(
            select(1).where(
                mine,
                messages.c.processed_at.is_not(None),
                # An expression, not the column: the search has to go by the run.
                messages.c.status.concat("") == const("failed"),
            )
        )
        return and_(~unfinished, ~failed)


def _of(table: str) -> str:
    return UNFINISHED.replace("status", f"{table}.status", 1)


def _pass_over(run_id: str, error: Exception) -> None:
    """The sweep is for all the others, too."""
    logger.error("A run cannot be recovered, %s: %s", run_id, error)


def _step(row: Row) -> StrandedStep:
    where = f"The row of workflow_steps with run_id {row[0]!r}, step_id {row[1]!r}"
    checked(where, row, str, str, str, int, int)
    return StrandedStep(
        step_id=row[1],
        step_name=row[2],
        retry_after=when(row[3]),
        updated_at=from_ms(row[4]),
    )


def _facts(row: Row, steps: Sequence[StrandedStep]) -> RunFacts:
    extra: Sequence[Any] = row[RUN_WIDTH:]
    where = f"What is stored of run {row[0]!r}"
    checked(where, [extra[place] for place in (0, 2, 3, 4, 8)], int, int, int, int, int)
    claims = [claim for claim in (extra[0], extra[2], extra[8]) if claim is not None]
    return RunFacts(
        run=run_of(row),
        has_message=bool(extra[1]),
        will_replay=bool(extra[7]),
        last_claim_at=when(max(claims, default=None)),
        last_waking_at=when(extra[3]),
        next_due_at=when(extra[4]),
        has_hook=bool(extra[5]),
        has_open_step=bool(extra[6]),
        stranded=tuple(steps),
    )
