"""Prefixed ids: ULIDs that rise strictly within a process (spec 1.1, 1.2)."""

from __future__ import annotations

import secrets
import threading
import time

from .core.ulid import RANDOM_BITS, encode_ulid


class UlidFactory:
    """Thread-safe: the same or an earlier millisecond increments the random part."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time = 0
        self._tail = 0

    def __call__(self) -> str:
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._time:
                self._time, self._tail = now, secrets.randbits(RANDOM_BITS)
            elif self._tail + 1 >> RANDOM_BITS:
                self._time, self._tail = self._time + 1, 0
            else:
                self._tail += 1
            return encode_ulid(self._time, self._tail)


new_ulid = UlidFactory()


def new_id(prefix: str) -> str:
    """``prefix``, an underscore and a fresh ULID: ``wrun_…``, ``msg_…``."""
    return f"{prefix}_{new_ulid()}"
