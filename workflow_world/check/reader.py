"""Reading one run whole: its row, log, steps, hooks and waits, as one instant saw them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from ..backend import Backend
from ..core.entities import Event, Hook, Run, Step, Wait
from ..core.fold import due_times_of
from ..core.invariants import Finding, RunRows, folded, run_findings
from ..core.paging import MAX_LIMIT as PAGE
from ..core.paging import Key, ListKind, Query, key_of
from .walk import Readable, UnreadableError

R = TypeVar("R", Step, Hook, Wait)
List = Callable[[Query], Awaitable[Sequence[R]]]

_PAUSES_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Between looks at a run that is being written to."""

_MAX_HOLES: Final = 200
_LOG: Final = "log-unreadable"


class RunReader:
    """Reads nothing but through the seam."""

    def __init__(self, backend: Backend) -> None:
        self._runs = backend.runs
        self._readable = Readable(backend)

    async def settled(self, run_id: str) -> RunRows | None:
        """The rows of a run that nobody wrote to meanwhile.

        Every change of a run appends to its log or touches its row, so rows that were read
        between two equal looks at both belong together.

        Returns: None when the run changed at every look.
        """
        for pause in _PAUSES_S:
            await asyncio.sleep(pause)
            before = await self._head(run_id)
            rows = await self.rows(run_id)
            if await self._head(run_id) == before:
                return rows
        return None

    async def _head(self, run_id: str) -> tuple[object, object]:
        return await self._row(run_id, payloads=False), await self._last(run_id)

    async def _row(self, run_id: str, *, payloads: bool) -> Run | str | None:
        """The run, or why it cannot be decoded."""
        try:
            return await self._readable(self._runs.get_run, run_id, payloads=payloads)
        except UnreadableError as error:
            return str(error)

    async def _last(self, run_id: str) -> tuple[int, str] | str | None:
        query = Query(kind="events", run_id=run_id, descending=True, limit=1)
        try:
            rows = await self._readable(self._runs.list_events, query)
        except UnreadableError as error:
            return str(error)
        return (rows[0].position, rows[0].event_id) if rows else None

    async def rows(self, run_id: str) -> RunRows:
        """What is stored now; another's write may fall between the reads."""
        unreadable: list[Finding] = []
        run = await self._row(run_id, payloads=True)
        if isinstance(run, str):
            unreadable.append(_unreadable("run", run_id, run_id, run))
            run = None
        log = await self._log(run_id, unreadable)
        rows = RunRows(run_id=run_id, run=run, log=log, unreadable=unreadable)
        expected = folded(rows)
        if isinstance(expected, Finding) or any(one.kind == _LOG for one in unreadable):
            return rows  # without a sound log there is nothing to hold the other rows against
        steps = await self._steps(run_id, expected.steps, unreadable)
        hooks = await self._hooks(run_id, expected.hooks, unreadable)
        waits: dict[str, Wait] = {}
        if expected.waits:
            try:
                found = await self._all("waits", self._runs.list_waits, run_id)
                waits = {wait.wait_id: wait for wait in found}
            except UnreadableError as error:
                unreadable.append(_unreadable("log", run_id, run_id, str(error)))
        log = await self._dated(log)
        return replace(rows, log=log, steps=steps, hooks=hooks, waits=waits)

    async def _log(self, run_id: str, unreadable: list[Finding]) -> list[Event]:
        """The whole log, newest pages first: those come from the database and from no cache."""
        found: list[Event] = []
        after: Key | None = None
        try:
            while True:
                query = Query(
                    kind="events", run_id=run_id, descending=True, limit=PAGE, after=after
                )
                rows = await self._readable(self._runs.list_events, query)
                found.extend(rows)
                if len(rows) < PAGE:
                    return found[::-1]
                after = (rows[-1].position,)
        except UnreadableError:
            return await self._log_with_holes(run_id, unreadable)

    async def _log_with_holes(self, run_id: str, unreadable: list[Finding]) -> list[Event]:
        """Event by event, naming the positions that cannot be decoded."""
        found: list[Event] = []
        position = holes = 0
        while holes < _MAX_HOLES:
            query = Query(kind="events", run_id=run_id, limit=1, after=(position,))
            try:
                rows = await self._readable(self._runs.list_events, query)
            except UnreadableError as error:
                position, holes = position + 1, holes + 1
                text = f"event {position}: {error}"
                unreadable.append(_unreadable("log", run_id, str(position), text))
                continue
            if not rows:
                break
            found.extend(rows)
            position = rows[0].position
        return found

    async def _dated(self, log: Sequence[Event]) -> list[Event]:
        """A list may give an older ``due_at`` than the database has; a single read does not."""
        due = due_times_of(log)
        fresh: list[Event] = []
        for event in log:
            stored = event
            if event.due_at != due.get(event.position):
                stored = await self._runs.get_event(event.run_id, event.event_id) or event
            fresh.append(event if stored is event else replace(event, due_at=stored.due_at))
        return fresh

    async def _steps(
        self, run_id: str, expected: Mapping[str, Step], unreadable: list[Finding]
    ) -> dict[str, Step]:
        try:
            found = await self._all("steps", self._runs.list_steps, run_id)
            return {step.step_id: step for step in found}
        except UnreadableError:
            return await self._each(
                "step",
                run_id,
                expected,
                lambda step: self._runs.get_step(run_id, step.step_id),
                unreadable,
            )

    async def _hooks(
        self, run_id: str, expected: Mapping[str, Hook], unreadable: list[Finding]
    ) -> dict[str, Hook]:
        try:
            found = await self._all("hooks", self._runs.list_hooks, run_id)
            return {hook.hook_id: hook for hook in found}
        except UnreadableError:
            return await self._each(
                "hook",
                run_id,
                expected,
                lambda hook: self._runs.get_hook(token=hook.token),
                unreadable,
            )

    async def _all(self, kind: ListKind, read: List[R], run_id: str) -> list[R]:
        found: list[R] = []
        after: Key | None = None
        while True:
            query = Query(kind=kind, run_id=run_id, limit=PAGE, after=after)
            rows = await self._readable(read, query)
            found.extend(rows)
            if len(rows) < PAGE:
                return found
            after = key_of(query, rows[-1])

    async def _each(
        self,
        what: str,
        run_id: str,
        expected: Mapping[str, R],
        read: Callable[[R], Awaitable[R | None]],
        unreadable: list[Finding],
    ) -> dict[str, R]:
        """The rows that the log speaks of, one by one, where the list cannot be decoded."""
        found: dict[str, R] = {}
        for key, row in expected.items():
            try:
                stored = await self._readable(read, row)
            except UnreadableError as error:
                unreadable.append(_unreadable(what, run_id, key, str(error)))
                continue
            if stored is not None and stored.run_id == run_id:
                found[key] = stored
        return found


async def judged(reader: RunReader, run_id: str) -> tuple[RunRows, list[Finding]] | None:
    """A run and what is wrong with it, for certain: what may be a race is looked at again.

    Returns: None when the run changed at every look.
    """
    rows = await reader.rows(run_id)
    found = run_findings(rows)
    if not found:
        return rows, []
    settled = await reader.settled(run_id)
    return None if settled is None else (settled, run_findings(settled))


def _unreadable(what: str, run_id: str, key: str, reason: str) -> Finding:
    return Finding(kind=f"{what}-unreadable", run_id=run_id, subject=key, detail=reason)
