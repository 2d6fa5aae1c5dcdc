"""News of other processes: a change stream on the journal, or a look at it every so often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final, cast

from pymongo.errors import OperationFailure, PyMongoError

from ..signals import Hub
from .client import Tables
from .journal import KEY, META

_AWAIT_MS: Final = 200
_IDLE_S: Final = 1.0
"""Whether it has to stop is asked so often while nobody waits, seconds."""

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
        self._hub.has_waiters.set()  # for once; somebody who goes may clear it
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            if not self._hub.has_waiters.wait(_IDLE_S):
                continue
            if self._streams:
                self._follow()
            else:
                self._look()
                self._stop.wait(self._poll_s)

    def _follow(self) -> None:
        """Until the stream fails. Where there are none at all, by looks from then on."""
        try:
            with self._tables[META].watch(max_await_time_ms=_AWAIT_MS) as stream:
                self._look()
                while not self._stop.is_set() and stream.alive:
                    change = stream.try_next()
                    if change is not None and _may_tell(change):
                        self._look()
        except OperationFailure as error:
            self._streams = False
            logger.info("No change streams here (code %s): the journal is read", error.code)
        except PyMongoError as error:
            if not self._stop.is_set():
                name = type(error).__name__
                logger.warning("The change stream failed, and begins again: %s", name)
                self._look()
            self._stop.wait(self._poll_s)

    def _look(self) -> None:
        try:
            found = self._tables[META].find_one({"_id": KEY}, {"number": 1})
        except PyMongoError:
            return
        number = None if found is None else found.get("number")
        if isinstance(number, int) and number > self._number:
            self._number = number
            self._hub.notify_all()


def _may_tell(change: Mapping[str, Any]) -> bool:
    """Whether it may be a new entry: not when it is marked as applied."""
    update = cast("Mapping[str, Any]", change.get("updateDescription") or {})
    fields = cast("Mapping[str, Any]", update.get("updatedFields") or {})
    return not fields or "number" in fields
