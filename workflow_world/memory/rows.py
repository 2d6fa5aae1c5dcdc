"""Detached copies of rows: what goes in and out of the store shares no mutable value with it.

The copy is a round trip through the codec, so that values come back here as from any database:
a tuple as a list, undefined as absent, and what CBOR cannot carry is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from ..codec import decode_payload, encode_payload
from ..core.entities import Event, Hook, Message, Run, Step
from ..core.resolve import without_payloads

_VALUES: Final[Mapping[type, tuple[str, ...]]] = {
    Run: ("input", "output", "error", "execution_context", "attributes"),
    Step: ("input", "output", "error"),
    Event: ("event_data",),
    Hook: ("metadata",),
    Message: ("headers", "last_error"),
}
"""The fields whose values may be mutable; all others are immutable."""

Row = TypeVar("Row", Run, Step, Event, Hook, Message)
Loaded = TypeVar("Loaded", Run, Step, Event, Hook)


def detached(row: Row) -> Row:
    """A copy that shares nothing mutable. Raises: InvalidRequestError."""
    values: dict[str, Any] = {
        name: decode_payload(encode_payload(getattr(row, name))) for name in _VALUES[type(row)]
    }
    return replace(row, **values)


def loaded(row: Loaded | None, *, payloads: bool = True) -> Loaded | None:
    """A stored row for a caller, if there is one."""
    if row is None:
        return None
    return detached(row if payloads else without_payloads(row))


def changed(stored: Row, row: Row, names: tuple[str, ...]) -> Row:
    """The stored row with only these fields taken from ``row``."""
    values: dict[str, Any] = {name: getattr(row, name) for name in names}
    return detached(replace(stored, **values))
