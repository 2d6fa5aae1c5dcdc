"""A write lane that works where its callers are, as long as that is quick.

A hop to another thread and back costs more than most transactions, and a thread that waits for the
interpreter while an event loop computes gets it a few times in 10 ms. So what an event loop submits
in one turn is a batch, and it runs at the end of that turn on the loop's own thread: in one
attempt, which waits for no lock. Whatever may take longer is left to the lane's thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty
from typing import Any, ClassVar, Final, TypeVar

from ..errors import BackendError
from .lane import (
    NO_LOCKS,
    Job,
    Lane,
    Locks,
    Operation,
    closed,
    empty_job,
    outcome_of,
    waited_for,
)
from .outages import UNKNOWN_OUTCOME

T = TypeVar("T")

MOST_AT_ONCE: Final = 64
LONG_WAIT_S: Final = 0.002
"""Beyond that a hop to a thread costs little in comparison, and frees the event loop."""
MOST_COUNTED_S: Final = 0.012
"""A single wait, such as a checkpoint's, is not yet a slow disk."""
LONGEST_PAUSE: Final = 256


class Throttle:
    """Whether batches may hold up an event loop: not while they wait long on the average.

    Then they pause for some batches, and one tries again. The pause doubles each time, so that a
    slow disk holds up event loops for one batch in hundreds.
    """

    def __init__(self) -> None:
        self._average = 0.0
        self._pause, self._left = 1, 0

    def allows(self) -> bool:
        """Asked once for each batch."""
        if self._left:
            self._left -= 1
            return False
        return True

    def took(self, seconds: float) -> None:
        """A batch waited so long for whatever is no computation."""
        waited = min(seconds, MOST_COUNTED_S)
        tries_again = self._average > LONG_WAIT_S
        self._average = waited if tries_again else self._average + (waited - self._average) / 8
        if self._average > LONG_WAIT_S:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._left = self._pause
        else:
            self._pause = 1


class NearLane(Lane):
    """A ``Lane`` with one thread.

    ``at_once`` runs a batch as ``transact`` does, but gives up where it would have to wait for a
    lock, or when anything fails: it returns False then, and nothing was done. What it raises is
    the answer to all callers.
    """

    touched_s: ClassVar[float] = 0.002
    """So long a touch waits for a batch that makes it needless."""

    def __init__(
        self,
        name: str,
        transact: Callable[[Sequence[Job[Any]]], None],
        *,
        at_once: Callable[[Sequence[Job[Any]]], bool],
        max_batch: int,
    ) -> None:
        super().__init__(name, transact, threads=1, max_batch=max_batch)
        self._at_once, self._throttle = at_once, Throttle()
        self._turns: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        self._working = threading.Lock()
        self._pending = self._begun = 0
        self._touch: tuple[Job[Any], int] = (empty_job(), 0)

    async def submit(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T:
        job, waiter = waited_for(operation, repeatable, locks)
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise closed()
            turn = self._turns.get(loop)
            if turn is None:
                for other in [one for one in self._turns if one.is_closed()]:
                    del self._turns[other]
                turn = self._turns[loop] = []
                loop.call_soon(self._end_turn, loop)
            turn.append(job)
        await waiter
        return outcome_of(job)

    def touch(self) -> None:
        self._touch = job, _ = empty_job(), self._begun
        self._put(job)

    def close(self) -> None:
        with self._lock:
            turns, self._turns = self._turns, {}
            for job in [job for turn in turns.values() for job in turn]:
                self._add(job)
        super().close()
        with self._working:  # a batch on an event loop has ended
            return

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            jobs = self._turns.pop(loop, None)
            if jobs is None:
                return  # ``close`` has taken them
            if not self._may_work(jobs):
                for job in jobs:
                    self._add(job)
                return
        try:
            done = self._work_here(jobs)
        finally:
            self._working.release()
        if not done:
            with self._lock:
                done = self._closed
                for job in jobs:
                    if done:
                        job.error = closed()
                    else:
                        self._add(job)
        if done:
            for job in jobs:
                job.deliver()

    def _may_work(self, jobs: Sequence[Job[Any]]) -> bool:
        """Whether the batch runs here; ``_working`` is held then."""
        return (
            not self._pending  # who came first goes first
            and len(jobs) <= MOST_AT_ONCE
            and self._throttle.allows()
            and self._working.acquire(blocking=False)
        )

    def _work_here(self, jobs: Sequence[Job[Any]]) -> bool:
        self._begun += 1
        began, computed = time.perf_counter(), time.thread_time()
        try:
            return self._at_once(jobs)
        except Exception as error:
            for job in jobs:
                job.error = error
            return True
        except BaseException:
            # A signal's handler has raised between two statements, or behind the last.
            text = "The program was interrupted; whether this is stored is not known"
            for job in jobs:
                job.error = BackendError(text, code=UNKNOWN_OUTCOME)
                job.deliver()
            raise
        finally:
            computed = time.thread_time() - computed
            self._throttle.took(time.perf_counter() - began - computed)

    def _add(self, job: Job[Any]) -> None:
        self._pending += job.loop is not None
        super()._add(job)

    def _run(self, first: Job[Any]) -> None:
        job = self._instead(first)
        if job is None:
            return
        batch = self._gather(job)
        try:
            with self._working:
                self._begun += 1
                self._finish(batch)
        finally:
            with self._lock:
                self._pending -= sum(job.loop is not None for job in batch)

    def _instead(self, job: Job[Any]) -> Job[Any] | None:
        """The job; of a touch whatever comes in time, or None when a batch begins meanwhile."""
        touch, begun = self._touch
        if job is not touch:
            return job
        try:
            found = self._queue.get(timeout=self.touched_s)
        except Empty:
            return job if begun == self._begun else None
        if found is None:
            self._queue.put(None)  # the end comes after this
            return job
        return found
