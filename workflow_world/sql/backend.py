"""The SQL backend: one handle on a database that the handles of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final

from ..backend import Capabilities
from ..handles import Shared
from ..signals import Hub
from .database import Database
from .queue import SqlMessageStore
from .runs import SqlRunStore
from .streams import SqlChunkStore

_shared: Final = Shared[Database]()


class SqlBackend:
    """See ``workflow_world.backend.Backend``.

    ``key`` names the database among those that Worlds of this process share; None: not shared.
    """

    def __init__(self, make: Callable[[], Database], key: Hashable | None) -> None:
        self._database = _shared.acquire(key, make)
        self._key = key
        self._dropped = _shared.watch(self, self._database, key)
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
        if self._dropped.detach() is not None and _shared.release(self._key):
            await asyncio.to_thread(self._database.close)
