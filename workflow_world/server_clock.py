"""The server's clock, which says what is due (spec 1.1), without asking it each time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from .clock import SYSTEM_CLOCK, Clock
from .core.values import from_ms

_KEPT_S: Final = 30.0
_SET_BACK: Final = timedelta(seconds=2)
"""A difference like this is no late answer."""


class ServerClock:
    """Goes on from the server's last answer by this machine's monotonic time, so it is never
    ahead. With a clock other than the system's, which is a test's, that one decides instead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: tuple[datetime, float] | None = None

    def learn(self, milliseconds: int) -> None:
        """An answer of the server has just arrived, some time after it was given: so of several
        the one that says the latest time is the nearest to the truth. It is kept for a while, not
        for ever, for the two clocks may drift apart, and the server's may be set."""
        told, at = from_ms(milliseconds), time.monotonic()
        known = self._known
        if known is not None and at - known[1] < _KEPT_S:
            behind = known[0] + timedelta(seconds=at - known[1]) - told
            if timedelta(0) < behind < _SET_BACK:
                return
        self._known = (told, at)

    def now(self) -> datetime:
        known = self._known
        if self._clock is not SYSTEM_CLOCK or known is None:
            return self._clock.now()
        passed = int((time.monotonic() - known[1]) * 1000)
        return known[0] + timedelta(milliseconds=passed)
