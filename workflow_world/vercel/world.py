"""``SdkWorld``: our World behind the SDK's flat names, a line or two per method.

The SDK calls the abstract methods of ``w.World``. The others are those of the TypeScript worlds
(spec 3.1), for tools that know them. Every method raises the errors of the ``World`` method that
it calls, as classes that are the SDK's too (``workflow_world.vercel.errors``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic
from vercel.workflow._internal import world as w

from ..core.entities import Event, Page, Wait
from ..errors import ConfigurationError
from ..world import World
from .cache import EventCache
from .elsewhere import left_to_others
from .errors import BORDER
from .models import from_event, stamped, to_event, to_hook, to_run, to_step
from .waiting import patient

R = TypeVar("R")
M = TypeVar("M")


class SdkWorld(w.World):
    """A World as the SDK wants it. Made by ``attach``.

    Attributes:
        world: the World underneath.
        gives_way: another may be installed in its place, which is nobody's mistake.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.gives_way = False
        self._prefixes: set[str] = set()
        self._models = EventCache(to_event)

    @property
    def has_handlers(self) -> bool:
        """A queue handler was built on it, so it cannot be exchanged any more."""
        return bool(self._prefixes)

    def __repr__(self) -> str:
        return f"<SdkWorld of {self.world!r}>"

    async def get_deployment_id(self) -> str:
        return await self.world.get_deployment_id()

    def get_environment(self) -> str | None:
        return self.world.get_environment()

    async def run_key(self, run_id: str, *, deployment_id: str | None = None) -> bytes | None:
        with BORDER:
            return await self.world.run_key(run_id, deployment_id=deployment_id)

    def write_manifest(self, manifest: dict[str, Any]) -> Path | None:
        return self.world.write_manifest(manifest)

    async def aclose(self) -> None:
        await self.world.close()

    # Queue

    async def queue(
        self,
        queue_name: str,
        message: w.QueuePayload | Mapping[str, object],
        *,
        deployment_id: str | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> str:
        """``World.queue``; ``kwargs`` are its ``delay_seconds`` and ``headers``."""
        # A model dumps itself to the wire's names; its bytes stay bytes.
        body = message.model_dump() if isinstance(message, pydantic.BaseModel) else message
        with BORDER:
            return await self.world.queue(
                queue_name,
                body,
                deployment_id=deployment_id,
                idempotency_key=idempotency_key,
                **kwargs,
            )

    def create_queue_handler(
        self, queue_name_prefix: w.QueuePrefix, handler: w.QueueHandler
    ) -> w.HTTPHandler:
        """Raises: ConfigurationError for a second handler of the same queues: it would get the
        runs of the first one's workflows, and fail them because it does not know those."""
        with BORDER:
            if queue_name_prefix in self._prefixes:
                raise ConfigurationError(
                    f"There is a Workflows() for the queues {queue_name_prefix}* already in this "
                    "process: let all modules share one, or give each a namespace of its own"
                )
            handler = left_to_others(self.world.clock, queue_name_prefix, handler)
            answer = self.world.create_queue_handler(
                queue_name_prefix, patient(self.world, handler)
            )
        self._prefixes.add(queue_name_prefix)

        async def http_handler(request: w.HTTPRequest) -> w.HTTPResponse:
            response = await answer(request)
            return w.HTTPResponse(response.status, response.body, dict(response.headers))

        return http_handler

    # Runs, steps, hooks, waits

    async def runs_get(self, run_id: str) -> w.WorkflowRun:
        with BORDER:
            return to_run(await self.world.runs.get(run_id))

    async def runs_get_many(self, run_ids: Sequence[str]) -> list[w.WorkflowRun | None]:
        with BORDER:
            runs = await self.world.runs.get_many(run_ids)
            return [None if run is None else to_run(run) for run in runs]

    async def runs_list(
        self, *, pagination: w.PaginationOptions | None = None, **filters: Any
    ) -> w.PaginatedResult[w.WorkflowRun]:
        """``World.runs.list``. A payload that no model can hold fails its page; with
        ``resolve_data="none"`` payloads stay behind."""
        with BORDER:
            return _page(await self.world.runs.list(**_paging(pagination), **filters), to_run)

    async def wait_for_terminal(self, run_id: str, timeout: float | None = None) -> w.WorkflowRun:
        """Wait until the run has ended; ``timeout`` in seconds. Raises: TimeoutError."""
        with BORDER:
            return to_run(await self.world.runs.wait(run_id, timeout))

    async def steps_get(self, run_id: str | None, step_id: str) -> w.WorkflowStep:
        with BORDER:
            return to_step(await self.world.steps.get(run_id, step_id))

    async def steps_list(
        self, run_id: str, *, pagination: w.PaginationOptions | None = None, **filters: Any
    ) -> w.PaginatedResult[w.WorkflowStep]:
        with BORDER:
            steps = await self.world.steps.list(run_id, **_paging(pagination), **filters)
            return _page(steps, to_step)

    async def hooks_get(self, hook_id: str) -> w.Hook:
        with BORDER:
            return to_hook(await self.world.hooks.get(hook_id))

    async def hooks_get_by_token(self, token: str) -> w.Hook:
        with BORDER:
            return to_hook(await self.world.hooks.get_by_token(token))

    async def hooks_list(
        self, run_id: str | None = None, *, pagination: w.PaginationOptions | None = None
    ) -> w.PaginatedResult[w.Hook]:
        with BORDER:
            return _page(await self.world.hooks.list(run_id, **_paging(pagination)), to_hook)

    async def waits_list(
        self, run_id: str | None = None, *, pagination: w.PaginationOptions | None = None
    ) -> w.PaginatedResult[Wait]:
        """The SDK has no model of a wait: these are our records."""
        with BORDER:
            waits = await self.world.waits.list(run_id, **_paging(pagination))
            return _page(waits, lambda wait: wait)

    # Events

    async def events_create(self, run_id: str | None, data: w.Event) -> w.EventResult:
        with BORDER:
            result = await self.world.events.create(run_id, from_event(data))
            # Everything in it is a checked model already.
            return w.EventResult.model_construct(
                event=None if result.event is None else self._written(result.event, data),
                events=None if result.events is None else self._models.page(result.events),
                run=None if result.run is None else to_run(result.run),
                step=None if result.step is None else to_step(result.step),
                hook=None if result.hook is None else to_hook(result.hook),
                wait=result.wait,
                cursor=result.cursor,
                has_more=result.has_more,
            )

    def _written(self, event: Event, proposed: w.Event) -> w.Event:
        made = stamped(event, proposed)
        return self._models.one(event) if made is None else self._models.adopt(event, made)

    async def events_get(self, run_id: str, event_id: str) -> w.Event:
        with BORDER:
            return self._models.one(await self.world.events.get(run_id, event_id))

    async def events_list(
        self, run_id: str, *, pagination: w.PaginationOptions | None = None
    ) -> w.PaginatedResult[w.Event]:
        options = _paging(pagination)
        with BORDER:
            if options.pop("sort_order", "asc") == "desc":
                events = await self.world.events.list(run_id, **options, sort_order="desc")
                return _page(events, to_event)
            # The hottest read: the models are made from shared records, nobody copies them.
            events = await self.world.events.log(run_id, **options)
            return _made(events, self._models.page(events.data))

    async def events_list_by_correlation_id(
        self,
        correlation_id: str,
        *,
        run_id: str | None = None,
        pagination: w.PaginationOptions | None = None,
    ) -> w.PaginatedResult[w.Event]:
        with BORDER:
            events = await self.world.events.list_by_correlation_id(
                correlation_id, run_id=run_id, **_paging(pagination)
            )
            return _page(events, to_event)

    # Streams

    async def streams_write(self, run_id: str, name: str, chunk: bytes) -> None:
        with BORDER:
            await self.world.streams.write(run_id, name, chunk)

    async def streams_write_multi(self, run_id: str, name: str, chunks: Sequence[bytes]) -> None:
        with BORDER:
            await self.world.streams.write_multi(run_id, name, chunks)

    async def streams_close(self, run_id: str, name: str) -> None:
        with BORDER:
            await self.world.streams.close(run_id, name)

    async def streams_get(
        self, run_id: str, name: str, start_index: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        with BORDER:
            async with aclosing(self.world.streams.get(run_id, name, start_index)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def streams_list(self, run_id: str) -> list[str]:
        with BORDER:
            return [*await self.world.streams.list(run_id)]

    async def streams_get_chunks(
        self, run_id: str, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> w.StreamChunksPage:
        with BORDER:
            page = await self.world.streams.get_chunks(run_id, name, limit=limit, cursor=cursor)
        return w.StreamChunksPage.from_wire(
            {
                "data": [{"index": chunk.index, "data": chunk.data} for chunk in page.data],
                "cursor": page.cursor,
                "hasMore": page.has_more,
                "done": page.done,
            }
        )

    async def streams_get_info(self, run_id: str, name: str) -> w.StreamInfo:
        with BORDER:
            info = await self.world.streams.get_info(run_id, name)
        return w.StreamInfo.from_wire({"tailIndex": info.tail_index, "done": info.done})


def _paging(options: w.PaginationOptions | None) -> dict[str, Any]:
    """Keyword arguments for our lists; what is not given keeps the list's own default."""
    if options is None:
        return {}
    given = {"limit": options.limit, "cursor": options.cursor, "sort_order": options.sort_order}
    return {name: value for name, value in given.items() if value is not None}


def _page(page: Page[R], convert: Callable[[R], M]) -> w.PaginatedResult[M]:
    return _made(page, [*map(convert, page.data)])


def _made(page: Page[Any], models: list[M]) -> w.PaginatedResult[M]:
    # Not validated again: on a page of 1000 events that costs more than reading them. And not
    # subscripted: pydantic builds a class for PaginatedResult[M] whenever the last one was freed.
    made: Any = w.PaginatedResult.model_construct(  # pyright: ignore[reportUnknownVariableType]
        data=models, cursor=page.cursor, has_more=page.has_more
    )
    return cast("w.PaginatedResult[M]", made)
