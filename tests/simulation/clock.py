"""The wall clock of the simulation, and ids that depend on nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from workflow_world.clock import SystemClock
from workflow_world.ids import UlidFactory, new_ulid

from .loop import SimulatedLoop
from .processes import here, within

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class SimulatedTicker:
    """Satisfies ``workflow_world.clock.Ticker``: a thread of the process that started it."""

    def __init__(
        self, loop: SimulatedLoop, seconds: float, action: Callable[[], None], name: str
    ) -> None:
        self._loop, self._seconds, self._action = loop, seconds, action
        self._context = within(here.get()[0], name.rpartition("-")[2])
        self._stopped = False
        self._set()

    def stop(self, timeout: float | None = None) -> None:
        self._stopped = True

    def _set(self) -> None:
        self._loop.call_later(self._seconds, self._tick, context=self._context)

    def _tick(self) -> None:
        if not self._stopped:
            self._action()
            self._set()


class SimulatedClock:
    """Satisfies ``Clock``: the loop's time and an offset that can step back and forth."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop, self.offset_s = loop, 0.0

    def now(self) -> datetime:
        milliseconds = round((self._loop.time() + self.offset_s) * 1000)
        return START + timedelta(milliseconds=milliseconds)

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        return await SystemClock().wait(event, timeout)

    def every(self, seconds: float, action: Callable[[], None], *, name: str) -> SimulatedTicker:
        return SimulatedTicker(self._loop, seconds, action, name)


@contextmanager
def seeded_ids(clock: SimulatedClock, random: Random) -> Generator[None]:
    """Meanwhile all ids come from this clock and this generator."""

    def time_ns() -> int:
        return int(clock.now().timestamp() * 1000) * 1_000_000

    before: dict[str, Any] = dict(vars(new_ulid))
    vars(new_ulid).update(vars(UlidFactory(time_ns, random.getrandbits)))
    try:
        yield
    finally:
        vars(new_ulid).update(before)
