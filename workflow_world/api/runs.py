"""``world.runs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ..core.attributes import is_storable
from ..core.entities import ABSENT, Page, Payload, Run, RunStatus
from ..core.events import CURRENT_SPEC_VERSION, NewEvent
from ..core.paging import DEFAULT_LIMITS, Query, clamp_limit
from ..core.resolve import ResolveData, wants_payloads, without_payloads
from ..core.values import aware_ms
from ..errors import InvalidRequestError, RunNotFoundError, WorldError
from ..patience import patiently
from .context import Context, SortOrder, check_id, one_more, ordered, page
from .events import Events

_RECHECK_S = 1.0
"""Should a notification be lost."""


class Runs:
    def __init__(self, context: Context, events: Events) -> None:
        self._context = context
        self._events = events

    async def get(self, run_id: str, *, resolve_data: ResolveData = "all") -> Run:
        """Raises: RunNotFoundError."""
        payloads = wants_payloads(resolve_data)
        backend = await self._context.opened()
        run = await backend.runs.get_run(check_id(run_id, "run_id"), payloads=payloads)
        if run is None:
            raise RunNotFoundError(run_id)
        return run if payloads else without_payloads(run)

    async def get_many(self, run_ids: Sequence[str]) -> Sequence[Run | None]:
        """The runs in the order asked for, None where there is none (spec 3.1)."""
        ids = [check_id(run_id, "run_id") for run_id in run_ids]
        backend = await self._context.opened()
        found = await backend.runs.get_runs(ids)
        return [found.get(run_id) for run_id in ids]

    async def list(
        self,
        *,
        workflow_name: str | None = None,
        status: RunStatus | Iterable[RunStatus] = (),
        deployment_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "desc",
        resolve_data: ResolveData = "all",
    ) -> Page[Run]:
        """Runs, newest first. Filters are joined by "and"; several statuses by "or".

        Args:
            created_after, created_before: exclusive bounds.
            attributes: runs that have all of these values.
            limit: 1 to 1000, default 100.

        Raises: InvalidCursorError.
        """
        statuses = (status,) if isinstance(status, str) else tuple(status)
        payloads = wants_payloads(resolve_data)
        query = Query(
            kind="runs",
            workflow_name=workflow_name,
            statuses=tuple(statuses),
            deployment_id=deployment_id,
            created_after=_bound(created_after, "created_after"),
            created_before=_bound(created_before, "created_before"),
            attributes=tuple((attributes or {}).items()),
            limit=clamp_limit(limit, DEFAULT_LIMITS["runs"]),
            payloads=payloads,
        )
        query = ordered(query, sort_order, cursor)
        backend = await self._context.opened()
        if not all(is_storable(key, value) for key, value in query.attributes):
            # No run has it, and what a database would do to find that out grows with it.
            return page(query, list[Run](), cursor)
        rows = [*await backend.runs.list_runs(one_more(query))]
        if not payloads:
            rows = [without_payloads(row) for row in rows]
        return page(query, rows, cursor)

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """Wait until the run has ended, in this process or another, and return it.

        Args:
            timeout: seconds; None waits for ever.

        Raises: RunNotFoundError; TimeoutError when the run has not ended in time; BackendError
            after five failed retries, as in ``Streams.get``.
        """
        backend = await self._context.opened()
        subscription = backend.notifier.subscribe(f"run:{check_id(run_id, 'run_id')}")
        able, clock = backend.capabilities, self._context.clock
        pause = _RECHECK_S
        if able.cross_process and not able.notifies_processes:
            pause = self._context.settings.poll_interval_ms / 1000
        deadline = None if timeout is None else clock.now().timestamp() + timeout
        try:
            while True:
                run = await patiently(lambda: self.get(run_id), clock)
                if run.is_final:
                    return run
                left = None if deadline is None else deadline - clock.now().timestamp()
                if left is not None and left <= 0:
                    raise TimeoutError(f"Run {run_id!r} is still {run.status} after {timeout} s")
                await subscription.wait(pause if left is None else min(left, pause))
        finally:
            subscription.close()

    async def create(
        self,
        *,
        workflow_name: str,
        input: Payload = None,
        run_id: str | None = None,
        deployment_id: str | None = None,
        execution_context: Mapping[str, object] | None = None,
        attributes: Mapping[str, str] | None = None,
        spec_version: int = CURRENT_SPEC_VERSION,
    ) -> Run:
        """Create a pending run (``run_created``); enqueue a message to have it executed.

        Raises: EntityConflictError when the id is taken, InvalidRequestError.
        """
        data: dict[str, object] = {
            "deploymentId": deployment_id or self._context.settings.deployment_id or "dpl_sql",
            "workflowName": workflow_name,
            "input": None if input is ABSENT else input,
        }
        if execution_context is not None:
            data["executionContext"] = execution_context
        if attributes is not None:
            data["attributes"] = attributes
        event = NewEvent(event_type="run_created", spec_version=spec_version, event_data=data)
        result = await self._events.create(run_id, event)
        assert result.run is not None
        return result.run

    async def cancel(self, run_id: str, *, reason: str | None = None) -> Run:
        """End the run as cancelled; cancelling a cancelled run again succeeds (spec 2.4).

        Raises: RunNotFoundError; EntityConflictError when it completed or failed.
        """
        data = None if reason is None else {"cancelReason": reason}
        result = await self._events.create(
            run_id, NewEvent(event_type="run_cancelled", event_data=data)
        )
        assert result.run is not None
        return result.run

    async def cancel_many(
        self, run_ids: Sequence[str], *, reason: str | None = None
    ) -> Sequence[Run | WorldError]:
        """Cancel each run; in its place stands the run, or the error that its cancel met."""
        outcomes: list[Run | WorldError] = []
        for run_id in run_ids:
            try:
                outcomes.append(await self.cancel(run_id, reason=reason))
            except WorldError as error:
                outcomes.append(error)
        return outcomes


def _bound(value: datetime | None, name: str) -> datetime | None:
    if value is None:
        return None
    try:
        return aware_ms(value)
    except (AttributeError, OverflowError, TypeError):
        raise InvalidRequestError(
            f"{name} must be a datetime, in UTC from the year 1 to 9999, not {value!r:.80}"
        ) from None
