"""What the parts of the message store on SQL share."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ...signals import QUEUE
from ..compiled import Row
from ..holding import Holding
from .statements import QueueStatements

if TYPE_CHECKING:
    from ..database import Database
    from ..runs import SqlRunStore


class QueueBase:
    """What the parts of the message store share."""

    def __init__(self, database: Database, runs: SqlRunStore) -> None:
        self._database, self._runs = database, runs
        self._statements = QueueStatements(database.tables, skips_locked=database.skips_locked)
        self._marks = database.concurrent
        self._holding = Holding(database.tables)
        self._news = True

    def _mark(self, replayed: str | None, serialize: bool) -> bool | None:
        """Whether a claim marks the run as being replayed; None: no."""
        return (self._marks and serialize and replayed is not None) or None

    def _tell(self) -> None:
        """A message of our own is ready, or may be."""
        self._news = True
        self._database.hub.notify(QUEUE)

    def _now(self) -> datetime:
        return self._database.clock.now()


def replayed_by(row: Row) -> str | None:
    """``Message.replays`` of a row."""
    return row[12] if row[13] is None else None
