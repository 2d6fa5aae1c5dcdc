"""Other processes' writes: one cheap poll of ``PRAGMA data_version`` while somebody waits.

The pragma reads a counter of the WAL index that changes when another connection commits: no
table is touched. For the watcher's connection this process's own writer is another one too. So
after a write of our own the lane is asked instead: the writer's connection does not count itself.

The pragma locks and unlocks the index, which is most of what an idle process would do. So while
the WAL file has not been written to for a while, its time stamp is looked at instead.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .database import SqliteDatabase

logger = logging.getLogger("workflow_world.sql")

INTERVAL_S: Final = 0.01
QUIET_INTERVAL_S: Final = 0.025
QUIET_S: Final = 2.0
"""A commit becomes visible when its last write is on disk: later than the file's time stamp."""


class Watcher:
    """A thread of its own, so that neither a busy event loop nor a busy lane delays it."""

    def __init__(
        self, database: SqliteDatabase, path: Path, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        self._database, self._hub, self._connect = database, database.hub, connect
        self._wal = f"{os.path.realpath(path)}-wal"
        self._cursor: sqlite3.Cursor | None = None
        self._seen: int | None = None
        self._commits = -1
        self._written: tuple[int, int] | None = None
        self._quiet_at = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(
            target=self._watch, name="workflow-world-watcher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._hub.has_waiters.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        quiet = False
        while not self._stopped.is_set():
            self._hub.has_waiters.wait()
            # Not the event's own wait: this loop is most of what an idle process does.
            time.sleep(QUIET_INTERVAL_S if quiet else INTERVAL_S)
            if self._stopped.is_set():
                break
            quiet = self._is_quiet() and self._seen is not None
            if not quiet:
                with self._database.gate:
                    self.look()

    def look(self) -> None:
        """One poll; wakes everybody when another process has written."""
        try:
            if self._cursor is None:
                self._cursor = self._connect().cursor()
            ours = self._database.commits
            ((version,),) = self._cursor.execute("PRAGMA data_version")
        except sqlite3.Error as error:
            # The poll interval of whoever waits is still there.
            logger.debug("data_version could not be read: %s", error)
            return
        if version == self._seen:
            return
        if self._seen is None or ours == self._commits:
            self._hub.notify_all()
        else:
            self._database.look_for_others()
        self._seen, self._commits = version, ours

    def forget(self) -> None:
        """The connection was closed: the next look makes another one."""
        self._cursor = self._seen = None

    def _is_quiet(self) -> bool:
        """Whether no commit can be under way, nor have come since the last look."""
        try:
            found = os.stat(self._wal)
        except OSError:
            return False
        written = (found.st_mtime_ns, found.st_size)
        if written != self._written:
            self._written, self._quiet_at = written, time.monotonic() + QUIET_S
        return time.monotonic() > self._quiet_at
