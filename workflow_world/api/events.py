"""``world.events``: the one way to change a run, and its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

from ..codec import has_undefined, without_undefined
from ..core import events as event_types
from ..core.decide import intent_for
from ..core.entities import Event, EventResult, Page
from ..core.events import NewEvent
from ..core.paging import DEFAULT_LIMITS, Query, clamp_limit
from ..core.resolve import (
    ResolveData,
    result_without_payloads,
    wants_payloads,
    without_payloads,
)
from ..core.rules import Owner
from ..core.rules_attribute import check_shape
from ..core.ulid import ulid_time
from ..core.values import from_ms
from ..errors import EventNotFoundError
from ..ids import new_id
from .context import Context, SortOrder, check_id, one_more, ordered, page


class Events:
    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.settings
        self._owner = Owner(
            owner_id=settings.owner_id,
            project_id=settings.project_id,
            environment=settings.environment or "development",
        )

    async def create(
        self,
        run_id: str | None,
        event: NewEvent | Mapping[str, object],
        *,
        resume_id: str | None = None,
        resume_payload_digest: str | None = None,
        resolve_data: ResolveData = "all",
    ) -> EventResult:
        """Append an event and change what it is about: atomic, serialised per run (spec 2).

        Args:
            run_id: the run; None only for ``run_created``, which then mints one.
            event: a ``NewEvent`` or the same as a map in wire form.
            resume_id, resume_payload_digest: make a ``hook_received`` happen once (spec 2.8).
            resolve_data: ``none`` leaves payloads out of the answer.

        Returns: the event and the entity it touched, as committed.
        Raises: InvalidRequestError, NotFoundError, EntityConflictError, RunExpiredError,
            TooEarlyError, RunNotSupportedError; nothing was written. BackendError.
        """
        proposed = event if isinstance(event, NewEvent) else NewEvent.from_mapping(event)
        if resume_id is not None or resume_payload_digest is not None:
            proposed = replace(
                proposed,
                resume_id=resume_id or proposed.resume_id,
                payload_digest=resume_payload_digest or proposed.payload_digest,
            )
        if proposed.event_data is not None and has_undefined(proposed.event_data):
            proposed = replace(proposed, event_data=without_undefined(proposed.event_data))
        checked = event_types.checked(run_id, proposed)
        if checked.event_type == "attr_set":
            check_shape(checked)
        if checked.event_type == "hook_received" and checked.resume_id is not None:
            checked = _dated(checked)
        payloads = wants_payloads(resolve_data)
        backend = await self._context.opened()
        target = run_id if run_id is not None else new_id("wrun")
        result = await backend.runs.write(
            intent_for(target, checked, owner=self._owner, sender=self._context.sender)
        )
        return result if payloads else result_without_payloads(result)

    async def get(self, run_id: str, event_id: str, *, resolve_data: ResolveData = "all") -> Event:
        """Raises: EventNotFoundError when the run has no such event."""
        payloads = wants_payloads(resolve_data)
        backend = await self._context.opened()
        event = await backend.runs.get_event(
            check_id(run_id, "run_id"), check_id(event_id, "event_id")
        )
        if event is None:
            raise EventNotFoundError(run_id, event_id)
        return event if payloads else without_payloads(event)

    async def list(
        self,
        run_id: str,
        *,
        event_types: Iterable[str] = (),
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "asc",
        resolve_data: ResolveData = "all",
    ) -> Page[Event]:
        """The run's log, oldest first; an unknown run has an empty one (spec 3.1).

        The cursor of the last page stays usable: it asks for what is appended later.

        Raises: InvalidCursorError.
        """
        query = Query(
            kind="events",
            run_id=check_id(run_id, "run_id"),
            event_types=tuple(event_types),
            limit=clamp_limit(limit, DEFAULT_LIMITS["events"]),
        )
        return _copied(await self._page(query, cursor, sort_order, resolve_data))

    async def log(
        self, run_id: str, *, cursor: str | None = None, limit: int | None = None
    ) -> Page[Event]:
        """``list`` for a reader that changes nothing: the events may be shared with a cache."""
        query = Query(
            kind="events",
            run_id=check_id(run_id, "run_id"),
            limit=clamp_limit(limit, DEFAULT_LIMITS["events"]),
        )
        return await self._page(query, cursor, "asc", "all")

    async def list_by_correlation_id(
        self,
        correlation_id: str,
        *,
        run_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "asc",
        resolve_data: ResolveData = "all",
    ) -> Page[Event]:
        """The events of one step, hook, wait or attribute write, of one run or of all."""
        query = Query(
            kind="events",
            run_id=None if run_id is None else check_id(run_id, "run_id"),
            correlation_id=check_id(correlation_id, "correlation_id"),
            limit=clamp_limit(limit, 100),
        )
        return await self._page(query, cursor, sort_order, resolve_data)

    async def _page(
        self, query: Query, cursor: str | None, order: SortOrder, resolve_data: ResolveData
    ) -> Page[Event]:
        payloads = wants_payloads(resolve_data)
        query = ordered(query, order, cursor)
        backend = await self._context.opened()
        rows = [*await backend.runs.list_events(one_more(query))]
        if not payloads:
            rows = [without_payloads(row) for row in rows]
        return page(query, rows, cursor)


def _copied(page: Page[Event]) -> Page[Event]:
    """The events with data of their own, for the caller to do with as it likes (spec 2.11)."""
    return replace(page, data=[*map(_own, page.data)])


def _own(event: Event) -> Event:
    # This is most of what listing a cached log costs. The generated constructor, with its twelve
    # guarded assignments, took seven times as long.
    data = event.event_data
    if data is None:
        return event
    copy = Event.__new__(Event)
    fields = copy.__dict__
    fields.update(event.__dict__)
    fields["event_data"] = (
        dict(data) if _ATOMS.issuperset(map(type, data.values())) else _fresh(data)
    )
    return copy


_ATOMS: Final = frozenset({bytes, str, int, float, bool, type(None)})


def _fresh(value: Any) -> Any:
    """The value with maps and lists of its own; everything else in it is immutable."""
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_fresh(item) for item in cast("list[object]", value)]
    return value


def _dated(event: NewEvent) -> NewEvent:
    """The time inside a resume id that is a ULID: when the payload was sent (spec 1.6)."""
    time = None if event.occurred_at else ulid_time(event.resume_id or "")
    try:
        return event if time is None else replace(event, occurred_at=from_ms(time))
    except OverflowError:
        return event  # it only looks like a ULID: its time is after the year 9999
