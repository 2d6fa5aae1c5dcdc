"""One small face over each World for the world-level workloads: the same calls for everybody."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from .plan import FILLED
from .servers import PLACE, SQLD

QUEUE_PREFIX = "__wkf_workflow_"
QUEUE = "__wkf_workflow_bench"
PAYLOAD = b"devl" + b"x" * 96
"""What steps take and give: 100 bytes."""
DATABASE = "workflow.db"
FILLED_OPTIONS = {"completed_retention_s": 604_800}
"""On a store that was filled before: nothing of it is pruned while something is measured."""

Handler = Callable[[], None]
"""Called once per delivered message."""


class Store(Protocol):
    """What a world-level workload needs; ``serve`` starts delivery of what is queued."""

    async def open(self) -> None: ...
    async def reopen(self) -> None:
        """A new handle on the same data, where there can be one: nothing is cached."""
        ...

    async def close(self) -> None: ...
    async def start_run(self, run_id: str) -> None: ...
    async def complete_run(self, run_id: str) -> None: ...
    async def wait(self, run_id: str) -> None:
        """Returns when the run has ended. Only ours has it."""
        ...

    async def create_step(self, run_id: str, step_id: str) -> None: ...
    async def start_step(self, run_id: str, step_id: str) -> None: ...
    async def complete_step(self, run_id: str, step_id: str) -> None: ...
    async def enqueue(self, number: int) -> None: ...
    async def serve(self, handler: Handler) -> None: ...
    async def list_log(self, run_id: str) -> int: ...
    async def create_hook(self, run_id: str, hook_id: str, token: str) -> None: ...
    async def find_hook(self, token: str) -> str: ...
    async def write_chunks(self, run_id: str, name: str, chunks: list[bytes]) -> None: ...
    async def close_stream(self, run_id: str, name: str) -> None: ...
    def read_stream(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]: ...


class OwnStore:
    """``workflow_world`` through its own API: on a SQLite file with ``synchronous=FULL``, or on the
    server that was settled for the directory.

    ``url`` is another way to the same database; ``options`` are those of ``create_world``.
    """

    def __init__(self, directory: Path, url: str | None = None, **options: Any) -> None:
        self._url = url or database_url(directory)
        self._options = database_options(directory) | options

    async def open(self) -> None:
        from workflow_world import create_world

        self.world = create_world(self._url, **self._options)

    async def reopen(self) -> None:
        await self.world.close()
        await self.open()

    async def close(self) -> None:
        await self.world.close()

    async def start_run(self, run_id: str) -> None:
        data = {"deploymentId": "dpl_bench", "workflowName": "bench", "input": PAYLOAD}
        await self._event(run_id, "run_created", data)
        await self._event(run_id, "run_started", None)

    async def complete_run(self, run_id: str) -> None:
        await self._event(run_id, "run_completed", {"output": PAYLOAD})

    async def wait(self, run_id: str) -> None:
        await self.world.runs.wait(run_id)

    async def create_step(self, run_id: str, step_id: str) -> None:
        data = {"stepName": "noop", "input": PAYLOAD}
        await self._event(run_id, "step_created", data, step_id)

    async def start_step(self, run_id: str, step_id: str) -> None:
        await self._event(run_id, "step_started", None, step_id)

    async def complete_step(self, run_id: str, step_id: str) -> None:
        await self._event(run_id, "step_completed", {"result": PAYLOAD}, step_id)

    async def _event(
        self, run_id: str, kind: str, data: dict[str, Any] | None, about: str | None = None
    ) -> None:
        from workflow_world import NewEvent

        event = NewEvent(event_type=kind, correlation_id=about, event_data=data)
        await self.world.events.create(run_id, event)

    async def enqueue(self, number: int) -> None:
        body = {"runId": f"wrun_{number:026d}", "stepId": f"step_{number}", "stepName": "noop"}
        await self.world.queue(QUEUE, body)

    async def serve(self, handler: Handler) -> None:
        async def handle(message: object, **about: object) -> None:
            handler()

        self.world.create_queue_handler(QUEUE_PREFIX, handle)
        await self.world.start()

    async def list_log(self, run_id: str) -> int:
        count, cursor, more = 0, None, True
        while more:
            page = await self.world.events.log(run_id, cursor=cursor)
            count, cursor, more = count + len(page.data), page.cursor, page.has_more
        return count

    async def create_hook(self, run_id: str, hook_id: str, token: str) -> None:
        await self._event(run_id, "hook_created", {"token": token}, hook_id)

    async def find_hook(self, token: str) -> str:
        return (await self.world.hooks.get_by_token(token)).hook_id

    async def write_chunks(self, run_id: str, name: str, chunks: list[bytes]) -> None:
        await self.world.streams.write_multi(run_id, name, chunks)

    async def close_stream(self, run_id: str, name: str) -> None:
        await self.world.streams.close(run_id, name)

    def read_stream(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        return self.world.streams.get(run_id, name)


class SdkStore:
    """Any World of the SDK through the SDK's interface, models and all.

    Args:
        make: a World on the same data each time it is awaited.
        start: begins delivery, where registering a handler does not.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Any]],
        start: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        from vercel.workflow._internal import world as w

        self._w, self._make, self._start = w, make, start

    async def open(self) -> None:
        self.world = await self._make()

    async def reopen(self) -> None:
        await self.world.aclose()
        await self.open()

    async def close(self) -> None:
        await self.world.aclose()

    async def start_run(self, run_id: str) -> None:
        data = self._w.RunCreatedEventData(
            deployment_id="dpl_bench", workflow_name="bench", input=PAYLOAD
        )
        await self.world.events_create(run_id, data.into_event())
        await self.world.events_create(run_id, self._w.RunStartedEvent())

    async def complete_run(self, run_id: str) -> None:
        data = self._w.RunCompletedEventData(output=PAYLOAD)
        await self.world.events_create(run_id, data.into_event())

    async def wait(self, run_id: str) -> None:
        raise NotImplementedError("the SDK's interface has no such call")

    async def create_step(self, run_id: str, step_id: str) -> None:
        data = self._w.StepCreatedEventData(step_name="noop", input=PAYLOAD)
        await self.world.events_create(run_id, data.into_event(step_id))

    async def start_step(self, run_id: str, step_id: str) -> None:
        await self.world.events_create(run_id, self._w.StepStartedEvent(correlation_id=step_id))

    async def complete_step(self, run_id: str, step_id: str) -> None:
        data = self._w.StepCompletedEventData(result=PAYLOAD)
        await self.world.events_create(run_id, data.into_event(step_id))

    async def enqueue(self, number: int) -> None:
        body = self._w.WorkflowInvokePayload(
            run_id=f"wrun_{number:026d}", step_id=f"step_{number}", step_name="noop"
        )
        await self.world.queue(QUEUE, body)

    async def serve(self, handler: Handler) -> None:
        async def handle(message: object, **about: object) -> None:
            handler()

        self.world.create_queue_handler(QUEUE_PREFIX, handle)
        if self._start is not None:
            await self._start(self.world)

    async def list_log(self, run_id: str) -> int:
        count, cursor, more = 0, None, True
        while more:
            options = self._w.PaginationOptions(cursor=cursor, sort_order="asc")
            page = await self.world.events_list(run_id, pagination=options)
            count, cursor, more = count + len(page.data), page.cursor, page.has_more
        return count

    async def create_hook(self, run_id: str, hook_id: str, token: str) -> None:
        data = self._w.HookCreatedEventData(token=token)
        await self.world.events_create(run_id, data.into_event(hook_id))

    async def find_hook(self, token: str) -> str:
        return (await self.world.hooks_get_by_token(token)).hook_id

    async def write_chunks(self, run_id: str, name: str, chunks: list[bytes]) -> None:
        await self.world.streams_write_multi(run_id, name, chunks)

    async def close_stream(self, run_id: str, name: str) -> None:
        await self.world.streams_close(run_id, name)

    async def read_stream(self, run_id: str, name: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.world.streams_get(run_id, name)) as chunks:
            async for chunk in chunks:
                yield chunk


def database_url(directory: Path) -> str:
    """That of a file, unless ``servers.settle`` noted another."""
    return str(_settled(directory).get("url", f"file:{directory / DATABASE}"))


def database_options(directory: Path) -> dict[str, Any]:
    options: dict[str, Any] = _settled(directory).get("options", {})
    return options


def _settled(directory: Path) -> dict[str, Any]:
    place = directory / PLACE
    return json.loads(place.read_text()) if place.exists() else {}


def own_store(directory: Path, **options: Any) -> OwnStore:
    return OwnStore(directory, **options)


def filled_store(directory: Path) -> Store:
    return OwnStore(directory, **FILLED_OPTIONS)


def own_sdk_store(directory: Path) -> Store:
    """Ours behind the SDK's interface: what the adapter adds to each call."""
    from workflow_world import create_world
    from workflow_world.vercel import SdkWorld

    async def make() -> Any:
        return SdkWorld(create_world(database_url(directory)))

    async def start(world: Any) -> None:
        await world.world.start()

    return SdkStore(make, start)


def local_store(directory: Path) -> Store:
    async def start(world: Any) -> None:
        # Messages sent before the handler was there wait until another one is sent.
        body = store._w.WorkflowInvokePayload(run_id="wrun_wake", step_id="s", step_name="noop")
        await world.queue(QUEUE, body)

    store = SdkStore(lambda: local_world(directory), start)
    return store


async def local_world(directory: Path) -> Any:
    """A LocalWorld with its queue entered: the task that enters it must be the one to leave it."""
    os.environ["WORKFLOW_LOCAL_DATA_DIR"] = str(directory)
    from vercel.workflow._internal.worlds.local import LocalWorld

    world = LocalWorld()
    await world._get_queue_client()
    return world


def floor_store(directory: Path) -> Store:
    from .floor import FloorWorld

    world = FloorWorld()

    async def make() -> Any:
        return world

    return SdkStore(make)


STORES: dict[str, Callable[[Path], Store]] = {
    "ours": own_store,
    "ours-sdk": own_sdk_store,
    **dict.fromkeys(("ours-pg", *SQLD), own_store),
    **dict.fromkeys(FILLED, filled_store),
    "local": local_store,
    "floor": floor_store,
}


@asynccontextmanager
async def opened(contender: str, directory: Path) -> AsyncIterator[Store]:
    store = STORES[contender](directory)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
