"""``resolve_data="none"``: the same objects without their payloads (spec 3.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, TypeAlias, TypeVar

from ..errors import InvalidRequestError
from .entities import ABSENT, Event, EventResult, Hook, Run, Step
from .events import EVENT_TYPES

ResolveData: TypeAlias = Literal["all", "none"]
_CHOICES: Final = ("all", "none")
R = TypeVar("R", Run, Step, Hook, Event)


def wants_payloads(resolve_data: str) -> bool:
    """Raises: InvalidRequestError for anything but ``all`` and ``none``."""
    if resolve_data not in _CHOICES:
        raise InvalidRequestError(f"resolve_data must be 'all' or 'none', not {resolve_data!r}")
    return resolve_data == "all"


def without_payloads(row: R) -> R:
    match row:
        case Run() | Step():
            error = ABSENT if isinstance(row.error, bytes) else row.error
            return replace(row, input=ABSENT, output=ABSENT, error=error)
        case Hook():
            return replace(row, metadata=ABSENT)
        case Event():
            return _event(row)


def result_without_payloads(result: EventResult) -> EventResult:
    return replace(
        result,
        event=None if result.event is None else without_payloads(result.event),
        run=None if result.run is None else without_payloads(result.run),
        step=None if result.step is None else without_payloads(result.step),
        hook=None if result.hook is None else without_payloads(result.hook),
    )


def _event(event: Event) -> Event:
    kind = EVENT_TYPES.get(event.event_type)
    if kind is None or kind.payload is None or event.event_data is None:
        return event
    rest = {key: value for key, value in event.event_data.items() if key != kind.payload}
    return replace(event, event_data=rest or None)
