"""Operations in no hurry: they wait a moment for another one, and share its transaction.

A settlement that nobody waits for costs a transaction by itself. Where that is a round trip or two,
it holds up what comes next in the lane; as part of the next transaction it costs next to nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from .lane import Job

T = TypeVar("T")

LEAST_S: Final = 0.002
MOST_S: Final = 0.1
_LOOKS: Final = 1.5
"""What comes next has mostly looked at the database once before it writes."""


class Patience:
    """For how long at most an operation in no hurry waits for another one."""

    def __init__(self) -> None:
        self._look_s = 0.0

    @property
    def seconds(self) -> float:
        return min(LEAST_S + _LOOKS * self._look_s, MOST_S)

    def timed(self, look: Callable[[Sequence[Job[Any]]], T]) -> Callable[[Sequence[Job[Any]]], T]:
        """The same look at the database; how long it takes decides about patience."""

        def run(jobs: Sequence[Job[Any]]) -> T:
            began = time.monotonic()
            result = look(jobs)
            self._look_s += (time.monotonic() - began - self._look_s) / 8
            return result

        return run


class Unhurried:
    """Those of one lane. Thread-safe."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._jobs: list[Job[Any]] = []

    def add(self, job: Job[Any], overdue: Callable[[], None]) -> None:
        """``overdue`` is called on the running event loop if nobody has taken the job in time."""
        with self._lock:
            first = self._jobs[0].loop if self._jobs else None
            self._jobs.append(job)
        if first is None or first.is_closed():
            asyncio.get_running_loop().call_later(self._patience.seconds, self._call, job, overdue)

    def take(self) -> list[Job[Any]]:
        """All of them, in the order in which they came."""
        if not self._jobs:
            return []
        with self._lock:
            jobs, self._jobs = self._jobs, []
        return jobs

    def _call(self, job: Job[Any], overdue: Callable[[], None]) -> None:
        with self._lock:
            is_left = any(one is job for one in self._jobs)
        if is_left:
            overdue()
