"""The server's clock, which says what is due (spec 1.1), without asking it each time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from ...clock import SYSTEM_CLOCK, Clock
from ...core.values import from_ms


class ServerClock:
    """Goes on from the server's last answer by this machine's monotonic time, so it is never
    ahead. With a clock other than the system's, which is a test's, that one decides instead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: tuple[datetime, float] | None = None

    def learn(self, milliseconds: int) -> None:
        """An answer of the server has just arrived."""
        self._known = (from_ms(milliseconds), time.monotonic())

    def now(self) -> datetime:
        known = self._known
        if self._clock is not SYSTEM_CLOCK or known is None:
            return self._clock.now()
        passed = int((time.monotonic() - known[1]) * 1000)
        return known[0] + timedelta(milliseconds=passed)
