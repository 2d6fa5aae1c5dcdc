"""Databases that the handles of a process share: counted, and closed with the last of them."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from .backend import Capabilities


class Shareable(Protocol):
    """What is shared. ``close`` blocks."""

    @property
    def is_open(self) -> bool: ...
    @property
    def capabilities(self) -> Capabilities: ...
    def close(self) -> None: ...


D = TypeVar("D", bound=Shareable)


class Shared(Generic[D]):
    """Of one kind of database."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._known: dict[Hashable, tuple[D, int]] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._lock.acquire,
                after_in_parent=self._lock.release,
                after_in_child=self._lock.release,
            )

    def acquire(self, key: Hashable | None, make: Callable[[], D]) -> D:
        """``key`` names the database; None: it is not shared."""
        if key is None:
            return make()
        with self._lock:
            database, count = self._known.get(key) or (make(), 0)
            self._known[key] = (database, count + 1)
            return database

    def release(self, key: Hashable | None) -> bool:
        """Returns: whether this was the last handle."""
        if key is None:
            return True
        with self._lock:
            database, count = self._known[key]
            if count > 1:
                self._known[key] = (database, count - 1)
                return False
            del self._known[key]
            return True

    def watch(
        self, handle: object, database: D, key: Hashable | None
    ) -> weakref.finalize[..., object]:
        """What to ``detach`` when the handle is closed: until then it warns of one that nobody has
        any more."""
        dropped = weakref.finalize(handle, self._dropped, database, key)
        dropped.atexit = False
        return dropped

    def _dropped(self, database: D, key: Hashable | None) -> None:
        """A handle was never closed, and nobody has it any more: it must not keep the count up.

        The garbage collector may call this anywhere, so what can wait is left to a thread.
        """
        was_open = database.is_open
        closer = threading.Thread(
            target=self._let_go, args=(database, key), name="workflow-world-closer", daemon=True
        )
        closer.start()
        if was_open:
            warnings.warn(f"unclosed World on {database.capabilities.name}", ResourceWarning, 2)

    def _let_go(self, database: D, key: Hashable | None) -> None:
        if self.release(key):
            database.close()
