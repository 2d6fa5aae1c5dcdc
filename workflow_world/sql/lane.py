"""The write lane: group commit for one database (design 6).

Writers submit closures. One thread takes everything that is pending, runs it in ONE transaction
and hands the results out after the commit; meanwhile the next batch gathers. Fifty writers thus
share one fsync, and a lone writer pays one thread hop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from ..errors import WorldError
from .compiled import Session

T = TypeVar("T")
Operation = Callable[[Session], T]
MAX_BATCH: Final = 256


@dataclass(slots=True)
class Job(Generic[T]):
    """An operation, and afterwards what came of it.

    ``loop`` is where the caller waits; None: ``deliver`` may be called from the lane's thread.
    The operation may run twice. It raises domain errors (WorldError) before its first write, so
    those are results and leave its neighbours alone.
    """

    operation: Operation[T]
    deliver: Callable[[Job[T]], None]
    loop: asyncio.AbstractEventLoop | None = None
    result: T | None = None
    error: BaseException | None = None

    def run(self, session: Session) -> None:
        self.result = self.error = None
        try:
            self.result = self.operation(session)
        except WorldError as error:
            self.error = error


class WriteLane:
    """``transact`` runs a batch of jobs in one transaction and fills in their results."""

    def __init__(self, transact: Callable[[Sequence[Job[Any]]], None]) -> None:
        self._transact = transact
        self._lock = threading.Lock()
        self._pending: deque[Job[Any]] = deque()
        self._busy = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="workflow-world-writer")

    async def submit(self, operation: Operation[T]) -> T:
        """The operation's result, once committed. Raises: what it raised, or BackendError.

        A caller that is cancelled does not undo its operation: all of it happens, or nothing.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def deliver(job: Job[T]) -> None:
            if not waiter.done():
                waiter.set_result(None)

        job: Job[T] = Job(operation, deliver, loop)
        self._put(job)
        await waiter
        return _outcome(job)

    def submit_blocking(self, operation: Operation[T]) -> T:
        """The same for a plain thread."""
        done: Future[None] = Future()
        job: Job[T] = Job(operation, lambda job: done.set_result(None))
        self._put(job)
        done.result()
        return _outcome(job)

    def close(self) -> None:
        """Waits for what was submitted."""
        self._executor.shutdown(wait=True)

    def _put(self, job: Job[Any]) -> None:
        with self._lock:
            self._pending.append(job)
            if self._busy:
                return
            self._busy = True
        self._executor.submit(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                count = min(len(self._pending), MAX_BATCH)
                if count == 0:
                    self._busy = False
                    return
                batch = [self._pending.popleft() for _ in range(count)]
            try:
                self._transact(batch)
            except BaseException as error:  # every caller must get an answer
                for job in batch:
                    job.error = error
            _hand_out(batch)


def _hand_out(batch: Sequence[Job[Any]]) -> None:
    """Each event loop is called once per batch, not once per job."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in batch:
        if job.loop is None:
            job.deliver(job)
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver_all, jobs)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _deliver_all(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.deliver(job)


def _outcome(job: Job[T]) -> T:
    if job.error is not None:
        raise job.error
    return cast("T", job.result)
