"""Decoded logs, kept: the log is append-only, so a replay of n events costs only the new ones.

An LRU by run, bounded in bytes. A prefix is trusted only while the row at its end is still the
one in the database: each read fetches that row again with whatever follows it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ..core.entities import Event
from .compiled import Row, Session
from .rows import event_of
from .run_statements import RunStatements

MAX_BYTES: Final = 64 << 20
_FIXED_COST: Final = 600
"""About what one decoded event weighs besides its data."""


class LogCache:
    """Thread-safe. The events it returns are shared: nobody may change them."""

    def __init__(self, statements: RunStatements, max_bytes: int = MAX_BYTES) -> None:
        self._statements, self._max_bytes = statements, max_bytes
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, tuple[list[Event], int]] = OrderedDict()
        self._bytes = 0

    def known(self, run_id: str) -> int:
        """How many events of the run's log are kept."""
        found = self._logs.get(run_id)
        return 0 if found is None else len(found[0])

    def read(self, session: Session, run_id: str, after: int, limit: int) -> Sequence[Event]:
        """Up to ``limit`` events of the run from behind position ``after``."""
        with self._lock:
            log, cost = self._logs.get(run_id) or ([], 0)
            kept = list(log) if len(log) >= after else []
        # A page that starts behind what is kept is read as it is.
        start = len(kept) if len(kept) >= after else after
        wanted = max(0, after + limit - start)
        rows = self._rows(session, run_id, start - 1 if kept else start, wanted + bool(kept))
        if kept:
            if not rows or rows[0][2] != kept[-1].event_id or rows[0][1] != kept[-1].position:
                self._drop(run_id)
                return self.read(session, run_id, after, limit)
            rows = rows[1:]
        fresh = [event_of(row) for row in rows]
        if start == len(kept):
            self._keep(run_id, [*kept, *fresh], (cost if kept else 0) + _weight(rows))
            return [*kept[after:], *fresh][:limit]
        return fresh

    def _rows(self, session: Session, run_id: str, position: int, limit: int) -> list[Row]:
        return session.all(self._statements.log, run_id=run_id, position=position, row_limit=limit)

    def _keep(self, run_id: str, events: list[Event], cost: int) -> None:
        with self._lock:
            known = self._logs.get(run_id)
            if known is not None and len(known[0]) >= len(events):
                self._logs.move_to_end(run_id)
                return
            self._bytes += cost - (0 if known is None else known[1])
            self._logs[run_id] = (events, cost)
            self._logs.move_to_end(run_id)
            while self._bytes > self._max_bytes and self._logs:
                self._bytes -= self._logs.popitem(last=False)[1][1]

    def _drop(self, run_id: str) -> None:
        with self._lock:
            known = self._logs.pop(run_id, None)
            self._bytes -= 0 if known is None else known[1]


def _weight(rows: Sequence[Row]) -> int:
    return sum(_FIXED_COST + 2 * len(row[6] or b"") for row in rows)
