"""Lanes: threads that run what event loops submit, several operations to a transaction.

The write lane is group commit for one database (design 6): its one thread takes everything that
is pending, runs it in ONE transaction and hands the results out after the commit; meanwhile the
next batch gathers. Fifty writers thus share one fsync, and a lone writer pays one thread hop. The
read lane does the same with several threads, for the hop costs more than most reads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from ..errors import BackendError, WorldClosedError, WorldError
from .compiled import Read, Session
from .unhurried import Unhurried

T = TypeVar("T")
Operation = Callable[[Session], T]


@dataclass(slots=True, eq=False)
class Locks:
    """What an operation is about, for engines on which several transactions write at once.

    Attributes:
        runs: rows that are locked before the operation reads them; none of them need exist.
        messages: rows that the operation changes, locked before when a batch has several.
        key: keeps operations of equal keys in one lane.
        also: what else the operation may change, or look for.
        stream: the stream that the operation locks and appends to.
        ahead: tells what the operation reads first, so that a batch may read all of it at once:
            of its locked runs and messages, or what it may as well have read a moment earlier.
            What has no ``place`` may change anything.
        lease: a message that the operation does not let go, and how that is read.
    """

    runs: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    key: str = ""
    also: tuple[str, ...] = ()
    stream: str = ""
    ahead: Callable[[Session], Sequence[Read]] | None = None
    lease: tuple[str, Read] | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """What the operation changes, or looks for."""
        return (*self.runs, *self.messages, *self.also, self.place)

    @property
    def order(self) -> tuple[bool, str, str]:
        """The order of a batch: two batches then never wait for each other. Claims are last: they
        look for what others set free."""
        return not self.place, self.place, self.stream

    @property
    def place(self) -> str:
        return self.runs[0] if self.runs else self.key


NO_LOCKS: Final = Locks()


@dataclass(slots=True)
class Job(Generic[T]):
    """An operation, and afterwards what came of it.

    ``waiter`` is what the caller awaits, None when nobody does. ``loop`` is where the caller waits;
    None: ``deliver`` may be called from the lane's thread.
    ``repeatable`` says that a loss of power may undo it, for then it is simply done again.
    ``then`` gets the result as soon as it is committed, on the thread that did it.
    The operation may run more than once. It raises domain errors (WorldError) before its first
    write, so those are results and leave its neighbours alone. Only what is the database's fault
    (BackendError) may come later.
    """

    operation: Operation[T]
    waiter: asyncio.Future[None] | Future[None] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    repeatable: bool = False
    locks: Locks = NO_LOCKS
    then: Callable[[T], None] | None = None
    result: T | None = None
    error: BaseException | None = None

    def run(self, session: Session) -> None:
        self.result = self.error = None
        try:
            self.result = self.operation(session)
        except BackendError:
            raise  # in the middle of things: what was written before is undone
        except WorldError as error:
            self.error = error

    def committed(self) -> None:
        if self.then is not None and self.error is None:
            self.then(cast("T", self.result))

    def deliver(self) -> None:
        """Wake the caller, unless it was cancelled."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


Transact: TypeAlias = Callable[[Sequence[Job[Any]]], Sequence[Job[Any]] | None]
Queue: TypeAlias = "SimpleQueue[Job[Any] | None]"


class Lane:
    """``transact`` runs a batch of jobs in one transaction and fills in their results. Those that
    it returns it has left: they come first in the next batch.

    ``spread``: jobs for which it gives the same number are one thread's; by default a job is
    that of whichever thread comes first.
    ``order`` is that of what a batch gathers; by default that in which it was submitted.
    ``unhurried``: where what is in no hurry waits.
    """

    def __init__(
        self,
        name: str,
        transact: Transact,
        *,
        threads: int,
        max_batch: int,
        spread: Callable[[Job[Any]], int] | None = None,
        order: Callable[[Job[Any]], Any] | None = None,
        unhurried: Unhurried | None = None,
    ) -> None:
        self._name, self._transact, self._order = name, transact, order
        self._count, self._max_batch = threads, max_batch
        self._unhurried = unhurried
        self._spread = spread
        count = 1 if spread is None else threads
        self._queues: list[Queue] = [SimpleQueue() for _ in range(count)]
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def submit(
        self,
        operation: Operation[T],
        *,
        repeatable: bool = False,
        unhurried: bool = False,
        locks: Locks = NO_LOCKS,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """The operation's result, once committed.

        ``unhurried``: a lane may wait a moment for an operation that can share its transaction.
        ``then`` gets the result before the caller's event loop does, which may be busy.

        Raises: what it raised, BackendError, WorldClosedError after ``close``.

        A caller that is cancelled does not undo its operation: all of it happens, or nothing.
        """
        job, waiter = waited_for(operation, repeatable, locks, then)
        if unhurried and self._unhurried is not None:
            with self._lock:
                self._check_open()
                self._unhurried.add(job, self._hurry)
        else:
            self._put(job)
        await waiter
        return outcome_of(job)

    def submit_blocking(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T:
        """The same for a plain thread."""
        done: Future[None] = Future()
        job: Job[T] = Job(operation, done, None, repeatable, locks)
        self._put(job)
        done.result()
        return outcome_of(job)

    def touch(self) -> None:
        """Have a batch begin after this call, if only an empty one; nobody waits for it."""
        self._put(empty_job())

    def between(self, action: Callable[[], bool]) -> bool:
        """Run the action on this thread, while no batch is running.

        Returns: what it returned; False when it was not run.
        """
        return False

    def close(self) -> None:
        """Blocking: runs what was submitted before, then ends the threads. For good."""
        with self._lock:
            self._add_unhurried()
            self._closed = True
            for number, _ in enumerate(self._threads):
                self._queue_of(number).put(None)
        for thread in self._threads:
            thread.join()

    def _put(self, job: Job[Any]) -> None:
        with self._lock:
            self._check_open()
            self._add_unhurried()
            self._add(job)

    def _hurry(self) -> None:
        """Nothing came along in time. After ``close``, which has taken them, there are none."""
        with self._lock:
            if not self._closed:
                self._add_unhurried()

    def _add_unhurried(self) -> None:
        """The lock is held."""
        for job in self._unhurried.take() if self._unhurried is not None else ():
            self._add(job)

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _add(self, job: Job[Any]) -> None:
        """Leave it to a thread; the lock is held."""
        if not self._threads:
            self._start()
        self._queue_of(0 if self._spread is None else self._spread(job)).put(job)

    def _queue_of(self, number: int) -> Queue:
        return self._queues[number % len(self._queues)]

    def _start(self) -> None:
        # Daemons: a World that nobody closed must not keep the process alive.
        self._threads = [
            threading.Thread(
                target=self._work,
                args=(self._queue_of(number),),
                name=f"{self._name}-{number}",
                daemon=True,
            )
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, queue: Queue) -> None:
        while (job := queue.get()) is not None:
            self._run(job, queue)

    def _run(self, first: Job[Any], queue: Queue) -> None:
        """One batch, and others until nothing of it is left."""
        left = self._finish(self._gather([first], self._max_batch, queue), self._transact)
        while left:
            more = self._gather([], self._max_batch - len(left), queue)
            left = self._finish([*left, *more], self._transact)

    def _finish(self, batch: Sequence[Job[Any]], transact: Transact) -> Sequence[Job[Any]]:
        """Returns: what is left of it."""
        left: Sequence[Job[Any]] = ()
        try:
            left = transact(batch) or ()
        except BaseException as error:  # every caller must get an answer
            for job in batch:
                job.error = error
        waiting = {id(job) for job in left}
        done = [job for job in batch if id(job) not in waiting]
        for job in done:
            job.committed()
        _hand_out(done)
        return left

    def _gather(self, batch: list[Job[Any]], most: int, queue: Queue) -> list[Job[Any]]:
        """The batch and whatever else is waiting."""
        try:
            while len(batch) < most:
                job = queue.get_nowait()
                if job is None:
                    queue.put(None)  # the end comes after this batch
                    break
                batch.append(job)
        except Empty:
            pass
        return self._in_order(batch)

    def _in_order(self, batch: list[Job[Any]]) -> list[Job[Any]]:
        return batch if self._order is None else sorted(batch, key=self._order)


def _hand_out(batch: Sequence[Job[Any]]) -> None:
    """Each event loop is called once per batch, not once per job."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in batch:
        if job.loop is None:
            job.deliver()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver_all, jobs)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _deliver_all(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.deliver()


def waited_for(
    operation: Operation[T],
    repeatable: bool,
    locks: Locks,
    then: Callable[[T], None] | None,
) -> tuple[Job[T], asyncio.Future[None]]:
    """A job of the running event loop, and what its caller awaits."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    return Job(operation, waiter, loop, repeatable, locks, then), waiter


def empty_job() -> Job[None]:
    return Job(lambda session: None, repeatable=True)


def outcome_of(job: Job[T]) -> T:
    """Raises: what its operation raised, or what became of its batch."""
    if job.error is not None:
        raise job.error
    return cast("T", job.result)


def closed() -> WorldClosedError:
    return WorldClosedError("This World's database is closed")
