"""The SQL backend: one handle on a database that the handles of a process share."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Hashable

from ..backend import Capabilities
from ..signals import Hub
from .database import Database
from .queue import SqlMessageStore
from .runs import SqlRunStore
from .streams import SqlChunkStore

_lock = threading.Lock()
_shared: dict[Hashable, tuple[Database, int]] = {}


class SqlBackend:
    """See ``workflow_world.backend.Backend``.

    ``key`` names the database among those that Worlds of this process share; None: not shared.
    """

    def __init__(self, make: Callable[[], Database], key: Hashable | None) -> None:
        self._database = make() if key is None else _acquire(key, make)
        # A handle that is dropped unused, or never closed, must not keep the count up.
        self._last = None if key is None else weakref.finalize(self, _release, key)
        self._closed = False
        self._runs = SqlRunStore(self._database)
        self._messages = SqlMessageStore(self._database, self._runs)
        self._chunks = SqlChunkStore(self._database)

    @property
    def database(self) -> Database:
        return self._database

    @property
    def capabilities(self) -> Capabilities:
        return self._database.capabilities

    @property
    def runs(self) -> SqlRunStore:
        return self._runs

    @property
    def messages(self) -> SqlMessageStore:
        return self._messages

    @property
    def chunks(self) -> SqlChunkStore:
        return self._chunks

    @property
    def notifier(self) -> Hub:
        return self._database.hub

    async def open(self) -> None:
        if not self._database.is_open:
            await self._database.open()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._last is None or self._last():
            await asyncio.to_thread(self._database.close)


def _acquire(key: Hashable, make: Callable[[], Database]) -> Database:
    with _lock:
        database, count = _shared.get(key) or (make(), 0)
        _shared[key] = (database, count + 1)
        return database


def _release(key: Hashable) -> bool:
    """Returns: whether this was the last handle."""
    with _lock:
        database, count = _shared[key]
        if count > 1:
            _shared[key] = (database, count - 1)
            return False
        del _shared[key]
        return True
