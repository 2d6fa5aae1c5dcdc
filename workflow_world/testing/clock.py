"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from ..clock import ThreadTicker, Ticker
from ..core.values import aware_ms

START: Final = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


class ManualClock:
    """Satisfies ``workflow_world.clock.Clock``; safe to use from several threads and loops."""

    def __init__(self, start: datetime = START) -> None:
        self._now = aware_ms(start)
        self._lock = threading.Lock()
        self._sleepers: list[tuple[datetime, asyncio.AbstractEventLoop, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` (negative: a clock that was set back); wake who slept so long."""
        with self._lock:
            self._now = aware_ms(self._now + timedelta(seconds=seconds))
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, loop, alarm in due:
            if not loop.is_closed():
                loop.call_soon_threadsafe(alarm.set)

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        if event.is_set() or timeout is None:
            await event.wait()
            return True
        if timeout <= 0:
            await asyncio.sleep(0)
            return event.is_set()
        alarm, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            sleeper = (self._now + timedelta(seconds=timeout), loop, alarm)
            self._sleepers.append(sleeper)
        waits = [loop.create_task(event.wait()), loop.create_task(alarm.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            with self._lock:
                self._sleepers = [one for one in self._sleepers if one[2] is not alarm]
        return event.is_set()

    def every(self, seconds: float, action: Callable[[], None], *, name: str) -> Ticker:
        """In real time: what a thread does beside a test does not wait for the test."""
        return ThreadTicker(seconds, action, name)
