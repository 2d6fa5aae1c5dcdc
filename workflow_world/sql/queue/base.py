"""What the parts of the message store on SQL share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...signals import QUEUE
from ..compiled import Row
from ..damage import UNREADABLE, checked
from ..holding import Holding
from ..rows import when
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
        self._looked: tuple[object, tuple[str, ...] | None, datetime | None] | None = None

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


def earliest(times: Sequence[Any] | None) -> datetime | None:
    """The first of some times as they are stored, some of which may be none."""
    found = [time for time in times or () if time is not None]
    checked("A time in queue_messages", found, *[int] * len(found))
    return when(min(found, default=None))


def first_due(times: Sequence[Any] | None, now: datetime) -> datetime | None:
    """``earliest``, but a damaged time must not keep the other messages waiting: one before the
    calendar is due, and neither one behind it nor what is no number ever will be."""
    first: Any = min((one for one in times or () if isinstance(one, int | float)), default=None)
    try:
        return when(first)
    except UNREADABLE:
        return now if first is not None and first < 0 else None
