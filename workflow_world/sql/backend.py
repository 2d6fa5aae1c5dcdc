"""The SQL backend: one handle on a database that the handles of a process share."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
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
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class SqlBackend:
    """See ``workflow_world.backend.Backend``.

    ``key`` names the database among those that Worlds of this process share; None: not shared.
    """

    def __init__(self, make: Callable[[], Database], key: Hashable | None) -> None:
        self._database = make() if key is None else _acquire(key, make)
        self._key = key
        self._dropped = weakref.finalize(self, _dropped, self._database, key)
        self._dropped.atexit = False
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
        if self._dropped.detach() is not None and _release(self._key):
            await asyncio.to_thread(self._database.close)


def _acquire(key: Hashable, make: Callable[[], Database]) -> Database:
    with _lock:
        database, count = _shared.get(key) or (make(), 0)
        _shared[key] = (database, count + 1)
        return database


def _dropped(database: Database, key: Hashable | None) -> None:
    """A handle was never closed, and nobody has it any more: it must not keep the count up.

    The garbage collector may call this anywhere, so what can wait is left to a thread.
    """
    was_open = database.is_open
    closer = threading.Thread(
        target=_let_go, args=(database, key), name="workflow-world-closer", daemon=True
    )
    closer.start()
    if was_open:
        warnings.warn(f"unclosed World on {database.capabilities.name}", ResourceWarning, 2)


def _let_go(database: Database, key: Hashable | None) -> None:
    if _release(key):
        database.close()


def _release(key: Hashable | None) -> bool:
    """Returns: whether this was the last handle."""
    if key is None:
        return True
    with _lock:
        database, count = _shared[key]
        if count > 1:
            _shared[key] = (database, count - 1)
            return False
        del _shared[key]
        return True
