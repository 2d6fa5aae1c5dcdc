"""Lanes without threads: the scheduler says when the next batch runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from random import Random
from typing import Any

from workflow_world.sql.lane import NO_LOCKS, Job, Lane
from workflow_world.sql.near_lane import NearLane, Throttle

from .processes import here, within


class PumpedLane(Lane):
    """Its thread is a strand of the process that submits."""

    def __init__(self, name: str, transact: Callable[..., None], **options: Any) -> None:
        super().__init__(name, transact, **options)
        self._strand = name.rpartition("-")[2]
        self._due = False

    def submit_blocking(
        self, operation: Any, *, repeatable: bool = False, locks: Any = NO_LOCKS
    ) -> Any:
        done: Future[None] = Future()
        job: Job[Any] = Job(operation, done, None, repeatable, locks)
        self._put(job)
        while not done.done():
            self._pump()
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        self._pump()
        super().close()

    def _start(self) -> None:
        """There is nothing to start; every job that comes asks for its turn."""

    def _add(self, job: Job[Any]) -> None:
        super()._add(job)
        if not self._due:
            self._due = True
            process, _ = here.get()
            loop = asyncio.get_running_loop()
            loop.call_soon(self._pump, context=within(process, self._strand))

    def _pump(self) -> None:
        self._due = False
        (queue,) = self._queues
        while not queue.empty():
            first = queue.get()
            assert first is not None
            self._run(first, queue)


class DrawnThrottle(Throttle):
    """How long a batch waited is drawn: the disk is fast, slow now and then, or always slow."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._waits = random.choice(((0.0,), (0.0, 0.0, 0.0, 0.012), (0.012,)))

    def took(self, seconds: float) -> None:
        super().took(self._random.choice(self._waits))


class PumpedNearLane(NearLane, PumpedLane):
    """What an event loop submits in one turn runs on that strand, or it is left to the other."""

    def __init__(
        self,
        name: str,
        transact: Callable[[Sequence[Job[Any]]], None],
        *,
        at_once: Callable[[Sequence[Job[Any]]], bool],
        max_batch: int,
        random: Random,
    ) -> None:
        super().__init__(name, transact, at_once=at_once, max_batch=max_batch, alone=True)
        self._throttle = DrawnThrottle(random)
