"""SDK events made from our records, kept: a replay reads the whole log each time (spec 8.8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from vercel.workflow._internal import world as w

from ..core.entities import Event

MAX_BYTES: Final = 32 * 1024 * 1024
_FIXED_COST: Final = 2048
"""About what one model weighs besides its payload, as measured for a ``step_created``."""


@dataclass(slots=True)
class _Log:
    """The first events of one run: our records, and what was made of each."""

    records: list[Event] = field(default_factory=list[Event])
    models: list[w.Event] = field(default_factory=list[w.Event])
    cost: int = 0


class EventCache:
    """The converted logs used last, up to about ``max_bytes``.

    Events are immutable and the SDK only reads them, so one model serves every replay. A kept
    one is used only for an equal record: a run deleted and created again cannot be mixed up.
    """

    def __init__(self, convert: Callable[[Event], w.Event], max_bytes: int = MAX_BYTES) -> None:
        self._convert = convert
        self._max_bytes = max_bytes
        self._bytes = 0
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    def one(self, event: Event) -> w.Event:
        """Raises: WorldError ``UNREPRESENTABLE``, and nothing is kept."""
        return self.page([event])[0]

    def page(self, events: Sequence[Event]) -> list[w.Event]:
        """For events of one run that follow each other in its log.

        Raises: WorldError ``UNREPRESENTABLE``, and nothing is kept.
        """
        if not events:
            return []
        start = events[0].position - 1
        log = self._trusted(events, start)
        known = log.models[start : start + len(events)]
        fresh = events[len(known) :]
        made = [self._convert(event) for event in fresh]
        if start + len(known) == len(log.records):
            self._keep(events[0].run_id, log, fresh, made)
        return known + made

    def adopt(self, event: Event, made: w.Event) -> w.Event:
        """Keep a model that was made otherwise, and return it."""
        log = self._trusted([event], event.position - 1)
        if event.position - 1 == len(log.records):
            self._keep(event.run_id, log, [event], [made])
        return made

    def _trusted(self, events: Sequence[Event], start: int) -> _Log:
        """What is kept of their run, unless it has other events in their places."""
        run_id = events[0].run_id
        log = self._logs.get(run_id)
        if log is None:
            return _Log()
        records = log.records
        # Nearly always these are the very records that the log's own cache gives out, and to see
        # that of a thousand takes a tenth of the time of looking up each.
        for place, (kept, event) in enumerate(zip(records[start:], events, strict=False), start):
            if kept is not event:
                if kept != event:
                    self._bytes -= self._logs.pop(run_id).cost
                    return _Log()
                records[place] = event
        self._logs.move_to_end(run_id)
        return log

    def _keep(
        self, run_id: str, log: _Log, records: Sequence[Event], models: Sequence[w.Event]
    ) -> None:
        cost = sum(_FIXED_COST + _weight(event.event_data) for event in records)
        log.records.extend(records)
        log.models.extend(models)
        log.cost += cost
        self._logs[run_id] = log
        self._bytes += cost
        while self._bytes > self._max_bytes:
            self._bytes -= self._logs.popitem(last=False)[1].cost


def _weight(value: object) -> int:
    """About how many bytes a payload takes."""
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(64 + _weight(part) for part in cast("Mapping[object, object]", value).values())
    if isinstance(value, list | tuple):
        return sum(64 + _weight(part) for part in cast("Sequence[object]", value))
    return 32
