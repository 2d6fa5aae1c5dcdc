"""A lane that works where its callers are, as long as that is quick.

A hop to another thread and back costs more than most transactions, and a thread that waits for the
interpreter while an event loop computes gets it a few times in 10 ms. So what an event loop submits
in one turn is a batch, and it runs at the end of that turn on the loop's own thread: in one
attempt, which waits for no lock. Whatever may take longer is left to the lane's threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import BackendError
from .lane import (
    NO_LOCKS,
    Job,
    Lane,
    Locks,
    Operation,
    Queue,
    Transact,
    closed,
    outcome_of,
    waited_for,
)
from .outages import UNKNOWN_OUTCOME
from .unhurried import Patience

T = TypeVar("T")

MOST_AT_ONCE: Final = 64
LONG_WAIT_S: Final = 0.002
"""Beyond that a hop to a thread costs little in comparison, and frees the event loop."""
MOST_COUNTED_S: Final = 0.012
"""A single wait, such as a checkpoint's, is not yet a slow disk."""
LONGEST_PAUSE: Final = 256

Rest: TypeAlias = Transact
"""Ends a batch of which only the end takes long."""


class Throttle:
    """Whether batches may hold up an event loop: not while they wait on the average for longer
    than ``long_wait_s``.

    Then they pause for some batches, and one tries again. The pause doubles each time, so that a
    slow disk holds up event loops for one batch in hundreds.
    """

    def __init__(self, long_wait_s: float = LONG_WAIT_S) -> None:
        self._long_wait_s = long_wait_s
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
        tries_again = self._average > self._long_wait_s
        self._average = waited if tries_again else self._average + (waited - self._average) / 8
        if self._average > self._long_wait_s:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._left = self._pause
        else:
            self._pause = 1


@dataclass(slots=True)
class _Turn:
    """What an event loop has submitted, until ``end``; ``waits``: all of it is in no hurry."""

    end: asyncio.Handle
    waits: bool
    jobs: list[Job[Any]] = field(default_factory=list[Job[Any]])


class NearLane(Lane):
    """A ``Lane`` whose threads do what takes long.

    ``at_once`` runs a batch as ``transact`` does, but gives up where it would have to wait for a
    lock, or when anything fails: it returns False then, and nothing was done. What it raises is
    the answer to all callers. Or it returns what ends the batch, for a thread.
    ``alone``: no two batches run at the same time.
    ``patience``: of what is in no hurry, and so waits for something that is.
    ``long_wait_s``: see ``Throttle``.
    """

    def __init__(
        self,
        name: str,
        transact: Callable[[Sequence[Job[Any]]], None],
        *,
        at_once: Callable[[Sequence[Job[Any]]], bool | Rest],
        max_batch: int,
        threads: int = 1,
        alone: bool = False,
        spread: Callable[[Job[Any]], int] | None = None,
        order: Callable[[Job[Any]], Any] | None = None,
        patience: Patience | None = None,
        long_wait_s: float = LONG_WAIT_S,
    ) -> None:
        super().__init__(
            name, transact, threads=threads, max_batch=max_batch, spread=spread, order=order
        )
        self._at_once, self._throttle = at_once, Throttle(long_wait_s)
        self._alone, self._patience = alone, patience or Patience()
        self._turns: dict[asyncio.AbstractEventLoop, _Turn] = {}
        self._working = threading.Lock()
        self._pending = 0

    async def submit(
        self,
        operation: Operation[T],
        *,
        repeatable: bool = False,
        unhurried: bool = False,
        locks: Locks = NO_LOCKS,
        then: Callable[[T], None] | None = None,
    ) -> T:
        job, waiter = waited_for(operation, repeatable, locks, then)
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise closed()
            turn = self._turns.get(loop)
            if turn is None:
                for other in [one for one in self._turns if one.is_closed()]:
                    for left in self._turns.pop(other).jobs:
                        self._add(left)
                turn = self._turns[loop] = _Turn(self._ending(loop, unhurried), unhurried)
            elif turn.waits and not unhurried:
                turn.end.cancel()
                turn.end, turn.waits = self._ending(loop, False), False
            turn.jobs.append(job)
        await waiter
        return outcome_of(job)

    def _ending(self, loop: asyncio.AbstractEventLoop, unhurried: bool) -> asyncio.Handle:
        if unhurried:
            return loop.call_later(self._patience.seconds, self._end_turn, loop)
        return loop.call_soon(self._end_turn, loop)

    def between(self, action: Callable[[], bool]) -> bool:
        if not self._working.acquire(blocking=False):
            return False
        try:
            return action()
        finally:
            self._working.release()

    def close(self) -> None:
        with self._lock:
            turns, self._turns = self._turns, {}
            for job in [job for turn in turns.values() for job in turn.jobs]:
                self._add(job)
        super().close()
        with self._working:  # a batch on an event loop has ended
            return

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            turn = self._turns.pop(loop, None)
            if turn is None:
                return  # ``close`` has taken it
            jobs = self._in_order(turn.jobs)
            if not self._may_work(jobs):
                for job in jobs:
                    self._add(job)
                return
        rest: Rest | None = None
        try:
            done = self._work_here(jobs)
            if not isinstance(done, bool):
                rest = done
            elif not done:
                rest = self._left(jobs)
        finally:
            if rest is None:
                self._working.release()
        if rest is not None:
            self._end_elsewhere(rest, jobs)
        elif done:
            for job in jobs:
                job.committed()
                job.deliver()

    def _left(self, jobs: Sequence[Job[Any]]) -> Rest | None:
        """Leave them to the lane's threads, or to another one when those have ended."""
        with self._lock:
            if self._closed:
                return self._transact
            for job in jobs:
                self._add(job)
        return None

    def _end_elsewhere(self, rest: Rest, jobs: Sequence[Job[Any]]) -> None:
        """On a thread of its own; until it ends whatever comes is the lane's threads'."""
        name = f"{self._name}-rest"
        thread = threading.Thread(target=self._end, args=(rest, jobs), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads are to be had
            self._end(rest, jobs)

    def _end(self, rest: Rest, jobs: Sequence[Job[Any]]) -> None:
        try:
            self._finish(jobs, rest)
        finally:
            self._working.release()

    def _may_work(self, jobs: Sequence[Job[Any]]) -> bool:
        """Whether the batch runs here; ``_working`` is held then."""
        return (
            not self._pending  # who came first goes first
            and len(jobs) <= MOST_AT_ONCE
            and self._throttle.allows()
            and self._working.acquire(blocking=False)
        )

    def _work_here(self, jobs: Sequence[Job[Any]]) -> bool | Rest:
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

    def _run(self, first: Job[Any], queue: Queue) -> None:
        batch = self._gather([first], self._max_batch, queue)
        try:
            with self._working if self._alone else nullcontext():
                self._finish(batch, self._transact)
        finally:
            with self._lock:
                self._pending -= sum(job.loop is not None for job in batch)
