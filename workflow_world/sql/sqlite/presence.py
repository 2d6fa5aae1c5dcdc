"""Who works on a SQLite file: a shared lock beside it, so that a sole worker can know it is one.

A starting worker that gets the lock exclusively for a moment has proved that no other worker is
alive on this file, so every lease belongs to a dead one and is freed at once: after kill -9 the
next worker goes on immediately instead of waiting for the leases to end (design 7).
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

_RETRY_S: Final = 0.005

_fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None
"""None on a platform without flock: there the lease's end decides."""


class FilePresence:
    """The open lock file of one worker."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # which also lets go of the lock
            self._descriptor = None


async def announce(path: Path | None, free_all: Callable[[], Awaitable[int]]) -> FilePresence:
    """Take the shared lock; free all leases first when nobody else holds it."""
    if path is None or _fcntl is None:
        return FilePresence(None)
    lock = path.with_name(path.name + "-workers")
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return FilePresence(None)
    presence = FilePresence(descriptor)
    try:
        if _try(descriptor, _fcntl.LOCK_EX):
            await free_all()
        # Somebody may hold it exclusively, but only for the moment of freeing leases.
        while not _try(descriptor, _fcntl.LOCK_SH):  # noqa: ASYNC110
            await asyncio.sleep(_RETRY_S)
    except BaseException:
        presence.close()
        raise
    return presence


def _try(descriptor: int, mode: int) -> bool:
    try:
        _fcntl.flock(descriptor, mode | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks proves nothing, and shares as well.
        return bool(mode == _fcntl.LOCK_SH)
    return True
