"""The only caller of the system time, behind a small port that tests replace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from .core.values import from_ms


class Ticker(Protocol):
    """What ``Clock.every`` started."""

    def stop(self, timeout: float | None = None) -> None:
        """No further call begins. Blocking: waits up to ``timeout`` seconds for one under way,
        unless that is the caller."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time: aware, UTC, whole milliseconds."""
        ...

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait until ``event`` is set or ``timeout`` seconds of this clock went by.

        Returns: whether the event is set.
        """
        ...

    def every(self, seconds: float, action: Callable[[], None], *, name: str) -> Ticker:
        """Call ``action`` each ``seconds`` from a thread of its own, called ``name``, which a busy
        event loop cannot starve. The first call comes after ``seconds``; ``action`` never raises.
        """
        ...


class ThreadTicker:
    """Satisfies ``Ticker``, in real time."""

    def __init__(self, seconds: float, action: Callable[[], None], name: str) -> None:
        self._seconds, self._action = seconds, action
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _tick(self) -> None:
        while not self._stop.wait(self._seconds):
            self._action()


class SystemClock:
    def now(self) -> datetime:
        return from_ms(time.time_ns() // 1_000_000)

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    def every(self, seconds: float, action: Callable[[], None], *, name: str) -> Ticker:
        return ThreadTicker(seconds, action, name)


SYSTEM_CLOCK = SystemClock()
