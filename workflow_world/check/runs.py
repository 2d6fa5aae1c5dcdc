"""The runs of a store, one at a time, with their streams; then the live hooks, by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ..backend import Backend
from ..core.chunks import PAGE_BYTES
from ..core.entities import Hook, Run
from ..core.invariants import Finding
from ..core.paging import Key, Query, key_of
from ..core.values import from_ms
from .reader import RunReader, judged
from .report import Notes
from .walk import ULID_BITS, Hole, Readable, Space, UnreadableError, id_at, number_of, walk

_PAGE: Final = 200
_CHUNKS: Final = 1000
_PREFIX: Final = "wrun_"
_TIME_BITS: Final = 48
_LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""


class RunCheck:
    def __init__(self, backend: Backend, notes: Notes, *, streams: bool) -> None:
        self._backend, self._notes, self._streams = backend, notes, streams
        self._reader, self._readable = RunReader(backend), Readable(backend)
        self._space = Space(
            _run_number, _run_key, _TIME_BITS + ULID_BITS, self._nearest, _next_time
        )

    async def run(self) -> None:
        async for page in walk(self._readable, self._list, self._space, limit=_PAGE):
            if isinstance(page, Hole):
                await self._hole(page)
                continue
            for run in page:
                await self._one(run.run_id)
            self._notes.tell("runs")

    async def _list(self, after: Key | None, limit: int) -> tuple[Sequence[Run], Key | None]:
        query = Query(kind="runs", limit=limit, after=after, payloads=False)
        rows = await self._backend.runs.list_runs(query)
        return rows, key_of(query, rows[-1]) if len(rows) == limit else None

    async def _nearest(self, after: Key | None, low: int, high: int) -> tuple[int, int]:
        """The millisecond of the first run behind a key, which cannot be decoded."""
        before, until = low >> ULID_BITS, min(high >> ULID_BITS, _LAST_MS)
        while until - before > 1:
            middle = (before + until) // 2
            query = Query(kind="runs", limit=1, after=after, created_before=from_ms(middle))
            try:
                await self._readable(self._backend.runs.list_runs, replace(query, payloads=False))
                before = middle
            except UnreadableError:
                until = middle
        # The last time before which there is nothing is its own.
        return max(low, before << ULID_BITS), (before + 1 << ULID_BITS) - 1

    async def _one(self, run_id: str) -> None:
        await asyncio.sleep(0)  # see walk
        found = await judged(self._reader, run_id)
        self._notes.saw("runs")
        if found is None:
            self._notes.busy(run_id)
            return
        rows, findings = found
        if rows.run is None and not rows.unreadable:
            return  # it was there a moment ago: somebody deletes runs
        self._notes.newer += rows.is_newer
        for what, count in (
            ("events", len(rows.log)),
            ("steps", len(rows.steps)),
            ("hooks", len(rows.hooks)),
        ):
            self._notes.saw(what, count)
        self._notes.add(*findings)
        if self._streams:
            await self._streams_of(run_id)

    async def _hole(self, hole: Hole[Key]) -> None:
        """A run of which not even the row without payloads can be decoded."""
        run_id = None if hole.key is None else str(hole.key[1])
        if run_id is not None:
            try:
                await self._readable(self._backend.runs.get_run, run_id, payloads=False)
                run_id = None  # no run has this id: its own is not a ULID
            except UnreadableError:
                self._notes.saw("runs")
        text = f"{hole.reason}" if run_id else f"a run that cannot be named: {hole.reason}"
        if hole.key is None:
            text += "; no run behind it could be listed"
        self._notes.add(Finding(kind="run-unreadable", run_id=run_id, subject=run_id, detail=text))

    # --- streams -------------------------------------------------------------------------

    async def _streams_of(self, run_id: str) -> None:
        try:
            names = await self._readable(self._backend.chunks.names, run_id)
        except UnreadableError as error:
            text = f"the streams cannot be listed: {error}"
            self._notes.add(
                Finding(kind="stream-unreadable", run_id=run_id, subject=run_id, detail=text)
            )
            return
        for name in names:
            self._notes.saw("streams")
            await self._stream(run_id, name)

    async def _stream(self, run_id: str, name: str) -> None:
        kind = "stream-gap"
        try:
            detail = await self._gap(run_id, name)
        except UnreadableError as error:
            kind, detail = "stream-unreadable", str(error)
        if detail is not None:
            self._notes.add(Finding(kind=kind, run_id=run_id, subject=name, detail=detail))

    async def _gap(self, run_id: str, name: str) -> str | None:
        """What is missing between the first chunk and the end that the stream had at each look."""
        chunks, expected = self._backend.chunks, 0
        while True:
            page, info = await self._readable(
                chunks.page, run_id, name, start=expected, limit=_CHUNKS, max_bytes=PAGE_BYTES
            )
            for chunk in page:
                if chunk.index != expected:
                    return f"chunk {expected} is missing: the next is {chunk.index}"
                expected += 1
            self._notes.saw("chunks", len(page))
            if expected > info.tail_index:
                return None
            if not page:
                return f"chunk {expected} is missing: the last is {info.tail_index}"


class HookCheck:
    """What a look at one run cannot tell: hooks of no run, and two hooks with one token."""

    def __init__(self, backend: Backend, notes: Notes) -> None:
        self._runs, self._notes, self._readable = backend.runs, notes, Readable(backend)

    async def run(self) -> None:
        async for page in walk(self._readable, self._list, _HOOK_SPACE, limit=_PAGE):
            if isinstance(page, Hole):
                continue  # its run names it
            for hook in page:
                await self._one(hook)
            self._notes.tell("hooks")

    async def _list(self, after: Key | None, limit: int) -> tuple[Sequence[Hook], Key | None]:
        query = Query(kind="hooks", limit=limit, after=after, payloads=False)
        rows = await self._runs.list_hooks(query)
        return rows, key_of(query, rows[-1]) if len(rows) == limit else None

    async def _one(self, hook: Hook) -> None:
        finding = await self._judge(hook)
        if finding is not None and await self._is_live(hook):
            # The hook outlived the look, so the look was not overtaken by its end.
            self._notes.add(finding)

    async def _judge(self, hook: Hook) -> Finding | None:
        kind, detail = "", ""
        try:
            run = await self._readable(self._runs.get_run, hook.run_id, payloads=False)
            if run is None:
                kind, detail = "hook-of-no-run", "the run of the hook does not exist"
            else:
                holder = await self._readable(self._runs.get_hook, token=hook.token)
                if holder is not None and not _is_same(holder, hook):
                    kind = "hook-token"
                    detail = f"hook {holder.hook_id} of run {holder.run_id} has the same token"
        except UnreadableError:
            return None
        if not kind:
            return None
        return Finding(kind=kind, run_id=hook.run_id, subject=hook.hook_id, detail=detail)

    async def _is_live(self, hook: Hook) -> bool:
        query = Query(kind="hooks", run_id=hook.run_id, limit=_PAGE, payloads=False)
        try:
            rows = await self._readable(self._runs.list_hooks, query)
        except UnreadableError:
            return True
        return len(rows) == _PAGE or any(_is_same(one, hook) for one in rows)


def _is_same(one: Hook, other: Hook) -> bool:
    return (one.run_id, one.hook_id) == (other.run_id, other.hook_id)


def _run_number(key: Key | None) -> int:
    if key is None:
        return 0
    return max(0, int(key[0])) << ULID_BITS | number_of(str(key[1]), _PREFIX)


def _run_key(number: int) -> Key:
    return number >> ULID_BITS, id_at(number & ((1 << ULID_BITS) - 1), _PREFIX)


def _next_time(key: Key) -> Key | None:
    """None for times that no run has: a row there cannot be stepped over."""
    return (int(key[0]) + 1, "") if int(key[0]) < _LAST_MS else None


def _hook_number(key: Key | None) -> int:
    return 0 if key is None else max(0, int(key[0]))


def _hook_key(number: int) -> Key:
    return number, "", ""


_HOOK_SPACE: Final = Space(_hook_number, _hook_key, _TIME_BITS)
