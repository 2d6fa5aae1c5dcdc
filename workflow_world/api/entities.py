"""``world.steps``, ``world.hooks`` and ``world.waits``: reads only, events change them."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.entities import Hook, Page, Step, StepStatus, Wait
from ..core.paging import DEFAULT_LIMITS, Query, clamp_limit
from ..core.resolve import ResolveData, wants_payloads, without_payloads
from ..core.values import is_safe_id
from ..errors import HookNotFoundError, StepNotFoundError, WaitNotFoundError
from .context import Context, SortOrder, check_id, one_more, ordered, page


class Steps:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(
        self, run_id: str | None, step_id: str, *, resolve_data: ResolveData = "all"
    ) -> Step:
        """A step; without a run the newest with that id. Raises: StepNotFoundError."""
        payloads = wants_payloads(resolve_data)
        if run_id is not None:
            check_id(run_id, "run_id")
        backend = await self._context.opened()
        step = await backend.runs.get_step(run_id, check_id(step_id, "step_id"))
        if step is None:
            raise StepNotFoundError(step_id, run_id)
        return step if payloads else without_payloads(step)

    async def list(
        self,
        run_id: str,
        *,
        status: StepStatus | Iterable[StepStatus] = (),
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "desc",
        resolve_data: ResolveData = "all",
    ) -> Page[Step]:
        """The run's steps, newest first. Raises: InvalidCursorError."""
        payloads = wants_payloads(resolve_data)
        query = Query(
            kind="steps",
            run_id=check_id(run_id, "run_id"),
            statuses=(status,) if isinstance(status, str) else tuple(status),
            limit=clamp_limit(limit, DEFAULT_LIMITS["steps"]),
            payloads=payloads,
        )
        query = ordered(query, sort_order, cursor)
        backend = await self._context.opened()
        rows = [*await backend.runs.list_steps(one_more(query))]
        if not payloads:
            rows = [without_payloads(row) for row in rows]
        return page(query, rows, cursor)


class Hooks:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, hook_id: str, *, resolve_data: ResolveData = "all") -> Hook:
        """A live hook by its id. Raises: HookNotFoundError with ``hook_id``."""
        payloads = wants_payloads(resolve_data)
        backend = await self._context.opened()
        hook = await backend.runs.get_hook(hook_id=check_id(hook_id, "hook_id"))
        if hook is None:
            raise HookNotFoundError(hook_id=hook_id)
        return hook if payloads else without_payloads(hook)

    async def get_by_token(self, token: str, *, resolve_data: ResolveData = "all") -> Hook:
        """The live hook that holds the token. Raises: HookNotFoundError with ``token``."""
        payloads = wants_payloads(resolve_data)
        backend = await self._context.opened()
        found = is_safe_id(token, limit=None)
        hook = await backend.runs.get_hook(token=token) if found else None
        if hook is None:
            raise HookNotFoundError(token=token)
        return hook if payloads else without_payloads(hook)

    async def list(
        self,
        run_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "asc",
        resolve_data: ResolveData = "all",
    ) -> Page[Hook]:
        """Live hooks, oldest first, of one run or of all. Raises: InvalidCursorError."""
        payloads = wants_payloads(resolve_data)
        query = Query(
            kind="hooks",
            run_id=None if run_id is None else check_id(run_id, "run_id"),
            limit=clamp_limit(limit, DEFAULT_LIMITS["hooks"]),
            payloads=payloads,
        )
        query = ordered(query, sort_order, cursor)
        backend = await self._context.opened()
        rows = [*await backend.runs.list_hooks(one_more(query))]
        if not payloads:
            rows = [without_payloads(row) for row in rows]
        return page(query, rows, cursor)


class Waits:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, run_id: str, wait_id: str) -> Wait:
        """A wait of a run that has not ended. Raises: WaitNotFoundError."""
        check_id(run_id, "run_id")
        query = Query(
            kind="waits", run_id=run_id, correlation_id=check_id(wait_id, "wait_id"), limit=1
        )
        backend = await self._context.opened()
        rows = await backend.runs.list_waits(query)
        if not rows:
            raise WaitNotFoundError(run_id, wait_id)
        return rows[0]

    async def list(
        self,
        run_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        sort_order: SortOrder = "asc",
    ) -> Page[Wait]:
        """Waits of runs that have not ended, oldest first. Raises: InvalidCursorError."""
        query = Query(
            kind="waits",
            run_id=None if run_id is None else check_id(run_id, "run_id"),
            limit=clamp_limit(limit, DEFAULT_LIMITS["waits"]),
        )
        query = ordered(query, sort_order, cursor)
        backend = await self._context.opened()
        rows = [*await backend.runs.list_waits(one_more(query))]
        return page(query, rows, cursor)
