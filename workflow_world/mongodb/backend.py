"""One handle on a database that the handles of a process share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable

from ..backend import Capabilities
from ..signals import Hub
from .database import Database
from .queue import MongoQueue
from .runs import MongoRuns
from .streams import MongoChunks

_lock = threading.Lock()
_shared: dict[Hashable, tuple[Database, int]] = {}


class MongoBackend:
    """See ``workflow_world.backend.Backend``.

    ``key`` names the database among those that Worlds of this process share; None: not shared.
    """

    def __init__(self, make: Callable[[], Database], key: Hashable | None) -> None:
        self._key, self._closed = key, False
        if key is None:
            self._database = make()
        else:
            with _lock:
                self._database, count = _shared.get(key) or (make(), 0)
                _shared[key] = (self._database, count + 1)
        self._runs = MongoRuns(self._database)
        self._messages = MongoQueue(self._database)
        self._chunks = MongoChunks(self._database)

    @property
    def database(self) -> Database:
        return self._database

    @property
    def capabilities(self) -> Capabilities:
        return self._database.capabilities

    @property
    def runs(self) -> MongoRuns:
        return self._runs

    @property
    def messages(self) -> MongoQueue:
        return self._messages

    @property
    def chunks(self) -> MongoChunks:
        return self._chunks

    @property
    def notifier(self) -> Hub:
        return self._database.hub

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._key is not None:
            with _lock:
                database, count = _shared[self._key]
                if count > 1:
                    _shared[self._key] = (database, count - 1)
                    return
                del _shared[self._key]
        await asyncio.to_thread(self._database.close)
