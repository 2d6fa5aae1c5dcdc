"""Other processes' writes: ``PRAGMA data_version`` when the WAL was written to and somebody waits.

The pragma reads a counter of the WAL index that changes when another connection commits: no
table is touched. For the watcher's connection this process's own writer is another one too. So
after a write of our own the writer's connection is asked instead, which does not count itself.

The pragma locks and unlocks the index, so it is only asked when there is a reason: see ``pace``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .pace import Pace, Stamped, pace

if TYPE_CHECKING:
    from .database import SqliteDatabase

logger = logging.getLogger("workflow_world.sql")


class Watcher:
    """A thread of its own, so that neither a busy event loop nor a busy lane delays it."""

    def __init__(
        self, database: SqliteDatabase, path: Path, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        self._database, self._hub, self._connect = database, database.hub, connect
        self._wal = f"{os.path.realpath(path)}-wal"
        self._pace: Pace = Stamped(self._wal)
        self._told: Pace | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._seen: int | None = None
        self._commits = -1
        self._owed: int | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._pace = self._told = pace(self._wal)
        self._thread = threading.Thread(
            target=self._watch, name="workflow-world-watcher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._hub.has_waiters.set()
        if self._told is not None:
            self._told.interrupt()
        if self._thread is not None:
            self._thread.join()
        self.leave()

    def leave(self) -> None:
        """The end of it where there is no thread, as in a child of the process that started it."""
        told, self._told = self._told, None
        if told is not None:
            told.close()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._hub.has_waiters.wait()
            try:
                is_due = self._pace.wait()
            except OSError as error:
                self._poll_instead(str(error))
                continue
            if self._stopped.is_set():
                break
            if is_due or self._seen is None:
                with self._database.gate:
                    found = self.look()
                if found and self._pace.missed():
                    self._poll_instead("a commit came without one")

    def _poll_instead(self, why: str) -> None:
        logger.debug("No more waiting for events of %s: %s", self._wal, why)
        self._pace = Stamped(self._wal)  # ``stop`` closes the other one

    def look(self) -> bool:
        """One poll; wakes everybody when another process has written. Returns: whether anybody,
        this process included, has committed since the last one."""
        try:
            if self._cursor is None:
                self._cursor = self._connect().cursor()
            ours = self._database.writer.commits
            ((version,),) = self._cursor.execute("PRAGMA data_version")
        except sqlite3.Error as error:
            # The poll interval of whoever waits is still there.
            logger.debug("data_version could not be read: %s", error)
            return False
        # Read after the version: a transaction that begins from now on sees all of it.
        begun = self._database.writer.begun
        if version == self._seen:
            if self._owed == begun:
                self._database.look_for_others()
            self._owed = None
            return False
        is_first, self._owed = self._seen is None, None
        if is_first or ours == self._commits:
            self._hub.notify_all()
        else:
            # Another process's commit may be among them. The next transaction here notices, and
            # if none begins until the next look, that one asks.
            self._owed = begun
            self._pace.was_ours()
        self._seen, self._commits = version, ours
        return not is_first

    def forget(self) -> None:
        """The connection was closed: the next look makes another one."""
        self._cursor = self._seen = None
