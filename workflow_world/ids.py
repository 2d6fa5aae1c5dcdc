"""Prefixed ids: ULIDs that rise strictly within a process (spec 1.1, 1.2)."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable

from .core.ulid import RANDOM_BITS, encode_ulid


class UlidFactory:
    """Thread-safe: the same or an earlier millisecond increments the random part.

    ``time_ns`` and ``randbits`` are where time and chance come from.
    """

    def __init__(
        self,
        time_ns: Callable[[], int] = time.time_ns,
        randbits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self.time_ns, self.randbits = time_ns, randbits
        self._lock = threading.Lock()
        self._time = 0
        self._tail = 0

    def __call__(self) -> str:
        now = self.time_ns() // 1_000_000
        with self._lock:
            if now > self._time:
                self._time, self._tail = now, self.randbits(RANDOM_BITS)
            elif self._tail + 1 >> RANDOM_BITS:
                self._time, self._tail = self._time + 1, 0
            else:
                self._tail += 1
            return encode_ulid(self._time, self._tail)

    def forked(self) -> None:
        """Another process goes on from the same place: part from it."""
        self._lock = threading.Lock()
        self._tail = self.randbits(RANDOM_BITS)


new_ulid = UlidFactory()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=new_ulid.forked)


def new_id(prefix: str) -> str:
    """``prefix``, an underscore and a fresh ULID: ``wrun_…``, ``msg_…``."""
    return f"{prefix}_{new_ulid()}"
