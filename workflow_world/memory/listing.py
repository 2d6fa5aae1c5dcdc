"""The filters, order and limit of a list (``core.paging``), over rows in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ..core.entities import Event, Hook, Run, Step, Wait
from ..core.paging import Query, key_of

Row = TypeVar("Row", Run, Step, Event, Hook, Wait)


def page(query: Query, rows: Iterable[Row]) -> list[Row]:
    """The matching rows behind ``query.after``, in the order of their keys."""
    found = [(key_of(query, row), row) for row in rows if matches(query, row)]
    found.sort(key=lambda pair: pair[0], reverse=query.descending)
    if query.after is not None:
        after = query.after
        found = [
            (key, row) for key, row in found if (key < after if query.descending else key > after)
        ]
    return [row for _, row in found[: query.limit]]


def matches(query: Query, row: Run | Step | Event | Hook | Wait) -> bool:
    """Whether the list holds this row."""
    match row:
        case Run():
            return (
                (not query.statuses or row.status in query.statuses)
                and query.workflow_name in (None, row.workflow_name)
                and query.deployment_id in (None, row.deployment_id)
                and (query.created_after is None or row.created_at > query.created_after)
                and (query.created_before is None or row.created_at < query.created_before)
                and all(row.attributes.get(key) == value for key, value in query.attributes)
            )
        case Step():
            return row.run_id == query.run_id and (
                not query.statuses or row.status in query.statuses
            )
        case Event():
            return (
                query.run_id in (None, row.run_id)
                and query.correlation_id in (None, row.correlation_id)
                and (not query.event_types or row.event_type in query.event_types)
            )
        case Hook():
            return query.run_id in (None, row.run_id)
        case Wait():
            return query.run_id in (None, row.run_id) and query.correlation_id in (
                None,
                row.wait_id,
            )
