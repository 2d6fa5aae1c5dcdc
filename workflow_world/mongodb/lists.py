"""Filters and order of lists (``core.paging``) as the server takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..core.entities import Event, Wait
from ..core.fold import waits_of
from ..core.paging import Key, Query
from ..core.values import from_ms, to_ms
from .client import Tables
from .documents import EVENTS, RUNS, Document, Kind, pair_of
from .transaction import GONE

_AT_ONCE: Final = 200

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "runs": ("created_at", "_id"),
    "steps": ("created_at", "step_id"),
    "hooks": ("created_at", "run_id", "hook_id"),
    "waits": ("created_at", "run_id", "correlation_id"),
    "events": ("created_at", "run_id", "position"),
}


def documents(tables: Tables, kind: Kind[Any], query: Query) -> list[Document]:
    """The page of documents behind ``query.after``."""
    if not _storable(query):
        return []
    names = _key(query)
    filters: dict[str, Any] = {**_filters(query), GONE: {"$exists": False}}
    if query.after is not None:
        filters["$or"] = _behind(names, query.after, descending=query.descending)
    cursor = tables[kind.collection].find(filters, wanted(kind, payloads=query.payloads))
    direction = -1 if query.descending else 1
    return list(cursor.sort([(name, direction) for name in names]).limit(query.limit))


def wanted(kind: Kind[Any], *, payloads: bool) -> dict[str, int] | None:
    """The fields to read. An error may be none of the payloads (``core.resolve``)."""
    return None if payloads else dict.fromkeys(set(kind.payloads) - {"error"}, 0) or None


def waits(tables: Tables, query: Query) -> list[Wait]:
    """Of runs that have not ended, each from its two events."""
    found: list[Wait] = []
    if not _storable(query):
        return found
    after = query.after
    while len(found) < query.limit:
        page = _created(tables, query, after)
        if not page:
            break
        found.extend(_live(tables, page))
        last = page[-1]
        after = (to_ms(last.created_at), last.run_id, last.correlation_id or "")
        if len(page) < _AT_ONCE:
            break
    return found[: query.limit]


def _created(tables: Tables, query: Query, after: Key | None) -> list[Event]:
    filters: dict[str, Any] = {"event_type": "wait_created"}
    for name in ("run_id", "correlation_id"):
        if (value := getattr(query, name)) is not None:
            filters[name] = value
    if after is not None:
        filters["$or"] = _behind(_KEYS["waits"], after, descending=query.descending)
    direction = -1 if query.descending else 1
    cursor = tables[EVENTS.collection].find(filters)
    order = [(name, direction) for name in _KEYS["waits"]]
    return [EVENTS.entity(one) for one in cursor.sort(order).limit(_AT_ONCE)]


def _live(tables: Tables, created: Sequence[Event]) -> list[Wait]:
    run_ids = sorted({event.run_id for event in created})
    running = tables[RUNS.collection].find(
        {"_id": {"$in": run_ids}, "completed_at": {"$exists": False}}, {"_id": 1}
    )
    live = {one["_id"] for one in running}
    about = {
        "run_id": {"$in": sorted(live)},
        "event_type": "wait_completed",
        "correlation_id": {"$in": sorted({event.correlation_id or "" for event in created})},
    }
    ended = [EVENTS.entity(one) for one in tables[EVENTS.collection].find(about)]
    found: list[Wait] = []
    for event in created:
        if event.run_id in live:
            ends = [
                one
                for one in ended
                if (one.run_id, one.correlation_id) == (event.run_id, event.correlation_id)
            ]
            found.extend(waits_of([event, *ends]).values())
    return found


def _storable(query: Query) -> bool:
    texts = (query.run_id, query.correlation_id, query.workflow_name, query.deployment_id)
    return storable(*texts, *query.statuses, *query.event_types)


def storable(*texts: str | None) -> bool:
    """Whether all of it can be in a document: a lone surrogate cannot."""
    try:
        "".join(filter(None, texts)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(query: Query) -> tuple[str, ...]:
    if query.kind == "events" and query.run_id is not None:
        return ("position",)
    return _KEYS[query.kind]


def _filters(query: Query) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("run_id", "correlation_id", "workflow_name", "deployment_id"):
        if (value := getattr(query, name)) is not None:
            found[name] = value
    if query.statuses:
        found["status"] = {"$in": list(query.statuses)}
    if query.event_types:
        found["event_type"] = {"$in": list(query.event_types)}
    if query.attributes:
        found["attributes"] = {"$all": [pair_of(*pair) for pair in query.attributes]}
    created: dict[str, Any] = {}
    if query.created_after is not None:
        created["$gt"] = query.created_after
    if query.created_before is not None:
        created["$lt"] = query.created_before
    if created:
        found["created_at"] = created
    return found


def _behind(names: Sequence[str], after: Key, *, descending: bool) -> list[dict[str, Any]]:
    """What comes later in the order of several fields."""
    beyond = "$lt" if descending else "$gt"
    values = [
        from_ms(int(value)) if name == "created_at" else value
        for name, value in zip(names, after, strict=True)
    ]
    return [
        {**dict(zip(names[:place], values[:place], strict=True)), names[place]: {beyond: value}}
        for place, value in enumerate(values)
    ]
