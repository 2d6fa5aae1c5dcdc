"""What a check hands back, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..core.invariants import Finding

Progress: TypeAlias = Callable[[str, int], None]
"""Called with what is being looked at (``runs``, ``messages`` …) and how many of it are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a check.

    Attributes:
        findings: what is wrong, at most as many as were asked for.
        kinds: how many there are of each kind, all of them counted.
        seen: how many runs, events, steps, hooks, messages, streams and chunks were looked at.
        busy: runs that changed all the while, so that nothing could be said of them.
        newer: runs that a newer SDK wrote; their rules are not known here.
    """

    findings: Sequence[Finding] = ()
    kinds: Mapping[str, int]
    seen: Mapping[str, int]
    busy: Sequence[str] = ()
    newer: int = 0

    @property
    def clean(self) -> bool:
        return not self.kinds

    @property
    def total(self) -> int:
        """How many findings there are, listed or not."""
        return sum(self.kinds.values())


class Notes:
    """Collects a report while the store is walked."""

    def __init__(self, *, limit: int, progress: Progress | None) -> None:
        self._limit, self._progress = limit, progress
        self._findings: list[Finding] = []
        self._kinds: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._busy: list[str] = []
        self.newer = 0

    def add(self, *findings: Finding) -> None:
        for one in findings:
            self._kinds[one.kind] += 1
            if len(self._findings) < self._limit:
                self._findings.append(one)

    def busy(self, run_id: str) -> None:
        if len(self._busy) < self._limit:
            self._busy.append(run_id)

    def saw(self, what: str, count: int = 1) -> None:
        self._seen[what] += count

    def tell(self, what: str) -> None:
        if self._progress is not None:
            self._progress(what, self._seen[what])

    def report(self) -> Report:
        return Report(
            findings=tuple(self._findings),
            kinds=dict(self._kinds),
            seen=dict(self._seen),
            busy=tuple(self._busy),
            newer=self.newer,
        )
