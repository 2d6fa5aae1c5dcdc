"""SDK events made from our records, kept: a replay reads the whole log each time (spec 8.8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from vercel.workflow._internal import world as w

from ..core.entities import Event

MAX_BYTES: Final = 32 * 1024 * 1024
_FIXED_COST: Final = 2048
"""About what one model weighs besides its payload, as measured for a ``step_created``."""


class EventCache:
    """The converted events used last, up to about ``max_bytes``.

    Events are immutable and the SDK only reads them, so one model serves every replay. A kept
    one is used only for an equal record: a run deleted and created again cannot be mixed up.
    """

    def __init__(self, convert: Callable[[Event], w.Event], max_bytes: int = MAX_BYTES) -> None:
        self._convert = convert
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], tuple[Event, w.Event, int]] = OrderedDict()

    def __call__(self, event: Event) -> w.Event:
        """Raises: WorldError ``UNREPRESENTABLE``, and nothing is kept."""
        key = (event.run_id, event.event_id)
        kept = self._kept.get(key)
        if kept is not None:
            if kept[0] is event:
                self._kept.move_to_end(key)
                return kept[1]
            if kept[0] == event:
                # From now on this is the record that the log's own cache gives out.
                self._kept[key] = (event, kept[1], kept[2])
                self._kept.move_to_end(key)
                return kept[1]
        made = self._convert(event)
        self._keep(key, event, made)
        return made

    def adopt(self, event: Event, made: w.Event) -> w.Event:
        """Keep a model that was made otherwise, and return it."""
        self._keep((event.run_id, event.event_id), event, made)
        return made

    def _keep(self, key: tuple[str, str], event: Event, made: w.Event) -> None:
        old = self._kept.pop(key, None)
        cost = _FIXED_COST + _weight(event.event_data)
        self._kept[key] = (event, made, cost)
        self._bytes += cost - (0 if old is None else old[2])
        while self._bytes > self._max_bytes and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1][2]


def _weight(value: object) -> int:
    """About how many bytes a payload takes."""
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(64 + _weight(part) for part in cast("Mapping[object, object]", value).values())
    if isinstance(value, list | tuple):
        return sum(64 + _weight(part) for part in cast("Sequence[object]", value))
    return 32
