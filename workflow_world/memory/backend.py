"""One handle on a database in memory, and the function that the registry calls."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from ..backend import Capabilities
from ..clock import Clock
from ..errors import ConfigurationError
from ..signals import Hub, Signal
from .database import MemoryDatabase
from .queue import MemoryQueue
from .runs import MemoryRuns
from .streams import MemoryChunks

CAPABILITIES: Final = Capabilities(
    name="memory", durable=False, cross_process=False, constraints=False
)

_named: dict[str, MemoryDatabase] = {}
_named_lock = threading.Lock()


class MemoryNotifier:
    """Satisfies ``backend.Notifier``: subscriptions are this handle's, wake-ups reach them all."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._database = database
        self._hub = Hub(clock)
        with database.lock:
            database.hubs[self._hub] = None

    def notify(self, topic: str) -> None:
        self._database.notify(topic)

    def subscribe(self, topic: str) -> Signal:
        return self._hub.subscribe(topic)


class MemoryBackend:
    """Satisfies ``backend.Backend``. Handles with one ``database`` see the same content, also
    from different event loops; each has a clock of its own."""

    def __init__(self, database: MemoryDatabase, *, clock: Clock) -> None:
        self.capabilities = CAPABILITIES
        self.runs = MemoryRuns(database, clock)
        self.messages = MemoryQueue(database, clock)
        self.chunks = MemoryChunks(database, clock)
        self.notifier = MemoryNotifier(database, clock)

    async def open(self) -> None:
        """There is nothing to connect to, and no schema."""

    async def close(self) -> None:
        """The content stays, for the other handles on it."""


def open_backend(url: str, *, clock: Clock, environ: Mapping[str, str]) -> MemoryBackend:
    """``memory:`` is a new, empty database; ``memory://NAME`` the one of that name in this process.

    Raises: ConfigurationError for any other URL; TypeError for an option: there are none.
    """
    scheme, _, rest = url.partition(":")
    name = rest.removeprefix("//")
    if scheme.lower() != "memory" or (rest and rest[:2] != "//") or set(name) & set("/?#@"):
        raise ConfigurationError("Write memory: for a new database, or memory://NAME to share one")
    if not name:
        return MemoryBackend(MemoryDatabase(), clock=clock)
    with _named_lock:
        return MemoryBackend(_named.setdefault(name, MemoryDatabase()), clock=clock)
