"""News of other processes: a change stream on the journal, or a look at it every so often."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from ..signals import Hub
from .client import Tables
from .journal import KEY, META

logger = logging.getLogger("workflow_world.mongodb")


class Watch:
    """Wakes the hub's waiters after another process's commit. What it misses costs latency only.

    Args:
        change_streams: use one where the server has them.
        poll_ms: milliseconds between two looks at the journal otherwise, while somebody waits.
    """

    def __init__(self, tables: Tables, hub: Hub, *, change_streams: bool, poll_ms: int) -> None:
        self._tables, self._hub = tables, hub
        self._streams, self._poll_s = change_streams, poll_ms / 1000
        self._number = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Any = None

    def start(self, number: int) -> None:
        """``number``: of the last entry."""
        self._number = number
        self._thread = threading.Thread(
            target=self._work, name="workflow-world-mongodb-watch", daemon=True
        )
        self._thread.start()

    def wrote(self, number: int) -> None:
        """An entry of this process, which has told its waiters itself."""
        if number == self._number + 1:
            self._number = number

    def stop(self) -> None:
        self._stop.set()
        self._hub.has_waiters.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            self._hub.has_waiters.wait()
            if self._streams:
                self._follow()
            else:
                self._look()
                self._stop.wait(self._poll_s)

    def _follow(self) -> None:
        """Until the stream fails; then for good by looks."""
        chosen = [{"$match": {"documentKey._id": KEY}}]
        try:
            with self._tables[META].watch(chosen, max_await_time_ms=200) as stream:
                self._look()
                while not self._stop.is_set() and stream.alive:
                    change = stream.try_next()
                    if change is None:
                        continue
                    self._hear(change)
        except OperationFailure as error:
            self._streams = False
            logger.info("No change streams here (code %s): looks instead", error.code)
        except PyMongoError as error:
            logger.warning("The change stream failed, and begins again: %s", type(error).__name__)
            self._stop.wait(1)

    def _hear(self, change: dict[str, Any]) -> None:
        fields: dict[str, Any] = change.get("updateDescription", {}).get("updatedFields", {})
        number = fields.get("number")
        if not isinstance(number, int):
            return
        mine, self._number = number <= self._number, max(number, self._number)
        if not mine:
            self._hub.notify_all()

    def _look(self) -> None:
        try:
            found = self._tables[META].find_one({"_id": KEY}, {"number": 1})
        except PyMongoError:
            return
        number = None if found is None else found.get("number")
        if isinstance(number, int) and number > self._number:
            self._number = number
            self._hub.notify_all()
