"""Servers that go away: what that means to a transaction, and how long to try again."""

from __future__ import annotations

import random
import time
from typing import Final

from ..errors import BackendError

PATIENCE_S: Final = 5.0
"""How long a batch waits for a server that went away, such as one that is restarted. From when
that was noticed: a lock that was taken away, or a connection that fell silent, is noticed late."""

UNKNOWN_OUTCOME: Final = "UNKNOWN_OUTCOME"
_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5
_CONFLICT_PAUSE_S: Final = 0.002
_CONFLICTS: Final = 8


class Unreachable(BackendError):
    """No connection could be made; the next attempt may succeed."""


class NotApplied(Exception):
    """The connection was lost, and the transaction was provably undone."""


class Retry:
    """Counts what may be tried again, and pauses in between."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._pause = _PAUSE_S
        self._conflicts = 0

    def after_loss(self) -> bool:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + PATIENCE_S
        return now < self._deadline and self._wait()

    def after_conflict(self) -> bool:
        self._conflicts += 1
        if self._conflicts == _CONFLICTS:
            return False
        _sleep(_CONFLICT_PAUSE_S * 1.5**self._conflicts)
        return True

    def _wait(self) -> bool:
        _sleep(self._pause)
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE_S)
        return True


def _sleep(seconds: float) -> None:
    time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311
