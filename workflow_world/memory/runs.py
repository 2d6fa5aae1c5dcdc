"""Runs, steps, hooks, waits and the event log in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from ..clock import Clock
from ..core.decision import Intent, Refusal
from ..core.entities import Event, EventResult, Hook, Run, Step, Wait
from ..core.events import WAKING_EVENTS
from ..core.fold import waits_of
from ..core.paging import Query
from ..core.recovery import RunFacts, StrandedStep
from ..core.resolve import without_payloads
from ..message_rows import is_unfinished, will_replay
from .apply import carry_out
from .database import MemoryDatabase
from .listing import page
from .rows import detached, loaded

Correlated = TypeVar("Correlated", Step, Hook)
Stored = TypeVar("Stored", Run, Step, Event, Hook)


class MemoryRuns:
    """Satisfies ``backend.RunStore``."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def write(self, intent: Intent) -> EventResult:
        with self._database.transaction() as change:
            verdict = carry_out(change, self._database, intent, self._clock.now())
            if isinstance(verdict, Refusal):
                raise verdict.error
        return verdict.result

    async def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        with self._database.lock:
            return loaded(self._database.runs.get(run_id), payloads=payloads)

    async def get_runs(self, run_ids: Sequence[str]) -> Mapping[str, Run]:
        runs = self._database.runs
        with self._database.lock:
            return {run_id: detached(runs[run_id]) for run_id in run_ids if run_id in runs}

    async def get_step(self, run_id: str | None, step_id: str) -> Step | None:
        with self._database.lock:
            steps = self._database.steps
            if run_id is not None:
                return loaded(steps.get((run_id, step_id)))
            return loaded(_newest(step for step in steps.values() if step.step_id == step_id))

    async def get_event(self, run_id: str, event_id: str) -> Event | None:
        with self._database.lock:
            log = self._database.log.get(run_id, {})
            return loaded(next((e for e in log.values() if e.event_id == event_id), None))

    async def get_hook(
        self, *, hook_id: str | None = None, token: str | None = None
    ) -> Hook | None:
        with self._database.lock:
            hooks = self._database.hooks.values()
            if token is not None:
                return loaded(next((hook for hook in hooks if hook.token == token), None))
            return loaded(_newest(hook for hook in hooks if hook.hook_id == hook_id))

    async def list_runs(self, query: Query) -> Sequence[Run]:
        with self._database.lock:
            return _loaded(query, page(query, self._database.runs.values()))

    async def list_steps(self, query: Query) -> Sequence[Step]:
        with self._database.lock:
            return _loaded(query, page(query, self._database.steps.values()))

    async def list_events(self, query: Query) -> Sequence[Event]:
        log = self._database.log
        with self._database.lock:
            logs = log.values() if query.run_id is None else [log.get(query.run_id, {})]
            rows = [event for events in logs for event in events.values()]
            return _loaded(query, page(query, rows))

    async def list_hooks(self, query: Query) -> Sequence[Hook]:
        with self._database.lock:
            return _loaded(query, page(query, self._database.hooks.values()))

    async def list_waits(self, query: Query) -> Sequence[Wait]:
        with self._database.lock:
            live = [run.run_id for run in self._database.runs.values() if not run.is_final]
            logs = [self._database.log.get(run_id, {}) for run_id in live]
            return page(query, [wait for log in logs for wait in waits_of(log.values()).values()])

    async def stranded(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        with self._database.lock:
            behind = sorted(
                run_id
                for run_id, run in self._database.runs.items()
                if not run.is_final and (after is None or run_id > after)
            )
            now = self._clock.now()
            facts = [self._facts_of(run_id, now) for run_id in behind]
        found = [one for one in facts if one.may_lack_a_wake_up]
        more = len(found) > limit
        return found[:limit], found[limit - 1].run.run_id if more else None

    def _facts_of(self, run_id: str, now: datetime) -> RunFacts:
        database = self._database
        messages = [m for m in database.messages.values() if m.run_id == run_id]
        expected = {m.step_id for m in messages if is_unfinished(m) or m.status == "failed"}
        steps = [s for s in database.steps.values() if s.run_id == run_id and not s.is_final]
        log = database.log.get(run_id, {}).values()
        run = loaded(database.runs[run_id], payloads=False)
        assert run is not None
        return RunFacts(
            run=run,
            has_message=any(is_unfinished(m) for m in messages),
            will_replay=any(will_replay(m, now) for m in messages),
            last_claim_at=database.last_claims.get(run_id),
            last_waking_at=max(
                (event.created_at for event in log if event.event_type in WAKING_EVENTS),
                default=None,
            ),
            next_due_at=min(
                (event.due_at for event in log if event.due_at is not None), default=None
            ),
            has_hook=any(key[0] == run_id for key in database.hooks),
            has_open_step=bool(steps),
            stranded=[
                StrandedStep(
                    step_id=step.step_id,
                    step_name=step.step_name,
                    retry_after=step.retry_after,
                    updated_at=step.updated_at,
                )
                for step in steps
                if step.step_id not in expected
            ],
        )


def _newest(rows: Iterable[Correlated]) -> Correlated | None:
    return max(rows, key=lambda row: (row.created_at, row.run_id), default=None)


def _loaded(query: Query, rows: Iterable[Stored]) -> list[Stored]:
    return [detached(row if query.payloads else without_payloads(row)) for row in rows]
