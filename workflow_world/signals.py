"""Wake-ups inside a process: topics, and subscriptions that wait for them on any event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from .clock import Clock

QUEUE: Final = "queue"


def run_topic(run_id: str) -> str:
    return f"run:{run_id}"


def stream_topic(run_id: str, name: str) -> str:
    return f"stream:{run_id}:{name}"


class Signal:
    """One waiter for one topic; satisfies ``backend.Subscription``.

    A wake-up between two waits is kept: the next ``wait`` returns at once.
    """

    def __init__(self, hub: Hub, topic: str, clock: Clock) -> None:
        self._hub, self._clock = hub, clock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._event = asyncio.Event()
        self.topic = topic

    def wake(self) -> None:
        """Thread-safe; silent when the loop is gone, for then nobody waits."""
        if self._event.is_set():
            return
        if self._loop.is_closed():
            self._hub.remove(self)
            return
        if threading.get_ident() == self._thread:
            self._event.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            self._hub.remove(self)

    async def wait(self, timeout: float | None) -> bool:
        self._hub.waiter_came()
        woken = await self._clock.wait(self._event, timeout)
        self._event.clear()
        return woken

    def close(self) -> None:
        """Wakes a pending wait, so that whoever waits looks again and finds it closed."""
        self._hub.remove(self)
        self.wake()


class Hub:
    """The topics of one database handle; satisfies ``backend.Notifier``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Dicts, not sets: who came first is woken first.
        self._signals: dict[str, dict[Signal, None]] = {}
        self.has_waiters = threading.Event()

    def notify(self, topic: str) -> None:
        with self._lock:
            signals = tuple(self._signals.get(topic, ()))
        for signal in signals:
            signal.wake()

    def notify_all(self) -> None:
        """Another process wrote something: everybody looks again."""
        with self._lock:
            signals = [signal for group in self._signals.values() for signal in group]
        for signal in signals:
            signal.wake()

    def subscribe(self, topic: str) -> Signal:
        signal = Signal(self, topic, self._clock)
        with self._lock:
            self._signals.setdefault(topic, {})[signal] = None
        return signal

    def remove(self, signal: Signal) -> None:
        with self._lock:
            group = self._signals.get(signal.topic)
            if group is not None:
                group.pop(signal, None)
                if not group:
                    del self._signals[signal.topic]
            if not self._signals:
                self.has_waiters.clear()

    def waiter_came(self) -> None:
        """Somebody waits: a poll for other processes' writes is worth its while."""
        if not self.has_waiters.is_set():
            self.has_waiters.set()
