"""One thread that writes: whatever waits when it comes round is one entry of the journal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar, cast

from ..errors import BackendError, WorldClosedError, WorldError
from .client import Unreached
from .transaction import Transaction

T = TypeVar("T")

MOST_TOGETHER: Final = 64


@dataclass(slots=True)
class Job(Generic[T]):
    """An operation, and what became of it. It may run more than once.

    ``ahead``: documents that it is going to ask for.
    ``then`` gets the result as soon as it is committed, on the lane's thread.
    """

    operation: Callable[[Transaction], T]
    done: Future[T]
    ahead: Sequence[tuple[str, str]] = ()
    then: Callable[[T], None] | None = None
    result: T | None = None
    error: BaseException | None = None

    def run(self, transaction: Transaction) -> None:
        """A refusal is a result, and undoes what the operation has written before it."""
        self.result = self.error = None
        mark = transaction.mark()
        try:
            self.result = self.operation(transaction)
        except WorldError as error:
            transaction.back_to(mark)
            self.error = error

    def deliver(self) -> None:
        if self.error is not None:
            self.done.set_exception(self.error)
            return
        result = cast("T", self.result)
        try:
            if self.then is not None:
                self.then(result)
        except Exception as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class Lane:
    """``transact`` runs jobs in one transaction, as often as it takes."""

    def __init__(self, transact: Callable[[Sequence[Job[Any]]], None]) -> None:
        self._transact = transact
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def submit(
        self,
        operation: Callable[[Transaction], T],
        *,
        ahead: Sequence[tuple[str, str]] = (),
        then: Callable[[T], None] | None = None,
    ) -> T:
        """A caller that is cancelled does not undo its operation: all of it happens, or nothing."""
        done = self._put(operation, ahead, then)
        return await asyncio.shield(asyncio.wrap_future(done))

    def submit_blocking(
        self, operation: Callable[[Transaction], T], *, ahead: Sequence[tuple[str, str]] = ()
    ) -> T:
        return self._put(operation, ahead, None).result()

    def close(self) -> None:
        """Blocking: runs what was submitted before, then ends the thread. For good."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()

    def _put(
        self,
        operation: Callable[[Transaction], T],
        ahead: Sequence[tuple[str, str]],
        then: Callable[[T], None] | None,
    ) -> Future[T]:
        job = Job(operation, Future[T](), ahead, then)
        job.done.set_running_or_notify_cancel()
        with self._lock:
            if self._closed:
                raise WorldClosedError("This World's database is closed")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="workflow-world-mongodb", daemon=True
                )
                self._thread.start()
            self._queue.put(job)
        return job.done

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._finish(self._gather(job))

    def _gather(self, first: Job[Any]) -> list[Job[Any]]:
        batch = [first]
        try:
            while len(batch) < MOST_TOGETHER:
                job = self._queue.get_nowait()
                if job is None:
                    self._queue.put(None)  # the end comes after this batch
                    break
                batch.append(job)
        except Empty:
            pass
        return batch

    def _finish(self, batch: Sequence[Job[Any]]) -> None:
        try:
            self._transact(batch)
        except Exception as error:
            # Perhaps it is only one of them that cannot be stored.
            if len(batch) > 1 and not _is_outage(error):
                for job in batch:
                    self._finish([job])
                return
            for job in batch:
                job.error = error
        except BaseException as error:  # every caller must get an answer
            for job in batch:
                job.error = error
        for job in batch:
            job.deliver()


def _is_outage(error: Exception) -> bool:
    """Whether all of a batch would wait for the server once more, one after the other."""
    code = error.code if isinstance(error, BackendError) else None
    return isinstance(error, Unreached) or code == "UNKNOWN_OUTCOME"
