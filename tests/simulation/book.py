"""What was acknowledged, and what was seen: held against the database at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence


class Book:
    """Everybody writes into it; no fault reaches it. ``time`` is one that never steps back."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self.created: set[str] = set()
        self.cancelled: set[str] = set()
        self.resumed: set[tuple[str, str]] = set()
        self.pings: dict[str, str] = {}
        self.deliveries: defaultdict[str, dict[int, float]] = defaultdict(dict)
        self.executions: Counter[str] = Counter()
        self.written: defaultdict[str, list[list[bytes]]] = defaultdict(list)
        self.read: dict[str, list[bytes]] = {}
        self.ended: dict[str, str] = {}

    def pinged(self, name: str, attempt: int) -> None:
        """The first delivery of each attempt counts: only what failed has another attempt."""
        self.deliveries[name].setdefault(attempt, self._time())

    def executed(self, step_id: str) -> None:
        self.executions[step_id] += 1

    def wrote(self, run_id: str, chunks: Sequence[bytes]) -> None:
        """The stream's write was acknowledged."""
        self.written[run_id].append([*chunks])
