"""The floor: an SDK World that costs nothing, so what is left is the SDK's own time.

Dicts and lists, one asyncio task per message, no persistence, no copies, no coalescing of
wake-ups. Twenty messages are in delivery at once, the default of our worker: without a bound, all
wake-ups of a fan-out replay in step before any of them can end the run, and a World that costs
nothing is the slowest of all. It keeps what the runtime relies on (a step is created and finished
once, an idempotency key is held until its message is done) and checks nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vercel.workflow._internal import world as w

_ATTEMPTS = 3
_CONCURRENCY = 20
_RUN_CLASSES: Mapping[str, tuple[str, type[w.BaseWorkflowRun]]] = {
    "run_started": ("running", w.NonFinalWorkflowRun),
    "run_completed": ("completed", w.CompletedWorkflowRun),
    "run_failed": ("failed", w.FailedWorkflowRun),
    "run_cancelled": ("cancelled", w.CancelledWorkflowRun),
}
_STEP_CLASSES: Mapping[str, tuple[str, type[w.BaseWorkflowStep]]] = {
    "step_started": ("running", w.NonFinalWorkflowStep),
    "step_retrying": ("pending", w.NonFinalWorkflowStep),
    "step_completed": ("completed", w.CompletedWorkflowStep),
    "step_failed": ("failed", w.FailedWorkflowStep),
}
_FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(slots=True)
class _Stream:
    chunks: list[bytes] = field(default_factory=list)
    closed: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class FloorWorld(w.World):
    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._runs: dict[str, Any] = {}
        self._steps: dict[tuple[str, str], Any] = {}
        self._once: set[tuple[str, str | None, str]] = set()
        self._events: dict[str, list[Any]] = defaultdict(list)
        self._hooks: dict[str, w.Hook] = {}
        self._tokens: dict[str, w.Hook] = {}
        self._streams: dict[tuple[str, str], _Stream] = defaultdict(_Stream)
        self._handlers: dict[str, w.QueueHandler] = {}
        self._waiting: list[tuple[str, dict[str, Any], str | None, str]] = []
        self._keys: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def get_deployment_id(self) -> str:
        return "dpl_floor"

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- queue ---------------------------------------------------------------------------

    async def queue(
        self,
        queue_name: str,
        message: w.QueuePayload,
        *,
        deployment_id: str | None = None,
        idempotency_key: str | None = None,
        delay_seconds: float | None = None,
        **kwargs: Any,
    ) -> str:
        if idempotency_key is not None and idempotency_key in self._keys:
            return self._keys[idempotency_key]
        message_id = f"msg_{next(self._ids)}"
        if idempotency_key is not None:
            self._keys[idempotency_key] = message_id
        body = message.model_dump()
        if self._handler(queue_name) is None:
            self._waiting.append((queue_name, body, idempotency_key, message_id))
        else:
            self._spawn(queue_name, body, idempotency_key, message_id, delay_seconds or 0)
        return message_id

    def create_queue_handler(
        self, queue_name_prefix: w.QueuePrefix, handler: w.QueueHandler
    ) -> w.HTTPHandler:
        self._handlers[queue_name_prefix] = handler
        waiting, self._waiting = self._waiting, []
        for queue_name, body, key, message_id in waiting:
            self._spawn(queue_name, body, key, message_id, 0)

        async def http_handler(request: w.HTTPRequest) -> w.HTTPResponse:
            return w.HTTPResponse.json({"error": "not served over HTTP"}, status=404)

        return http_handler

    def _handler(self, queue_name: str) -> w.QueueHandler | None:
        for prefix, handler in self._handlers.items():
            if queue_name.startswith(prefix):
                return handler
        return None

    def _spawn(
        self, queue_name: str, body: dict[str, Any], key: str | None, message_id: str, delay: float
    ) -> None:
        task = asyncio.create_task(self._deliver(queue_name, body, key, message_id, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self, queue_name: str, body: dict[str, Any], key: str | None, message_id: str, delay: float
    ) -> None:
        if delay > 0:
            await asyncio.sleep(delay)
        async with self._slots:
            await self._handle(queue_name, body, key, message_id)

    async def _handle(
        self, queue_name: str, body: dict[str, Any], key: str | None, message_id: str
    ) -> None:
        handler = self._handler(queue_name)
        assert handler is not None
        result = None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                result = await handler(
                    body, attempt=attempt, queue_name=queue_name, message_id=message_id
                )
                break
            except Exception:
                if attempt == _ATTEMPTS:
                    raise
        if key is not None and self._keys.get(key) == message_id:
            del self._keys[key]
        if result is None:
            return
        again = result.idempotency_key
        if again is None or again not in self._keys:
            if again is not None:
                self._keys[again] = message_id
            self._spawn(queue_name, body, again, message_id, result.delay_seconds)

    # --- events --------------------------------------------------------------------------

    async def events_create(self, run_id: str | None, data: w.Event) -> w.EventResult:
        kind = data.event_type
        if run_id is None:
            run_id = f"wrun_{next(self._ids):026d}"
        now = datetime.now(UTC)
        run, step, hook = self._runs.get(run_id), None, None
        if kind == "run_started" and run is not None and run.status == "running":
            return w.EventResult.model_construct(run=run)
        if run is not None and run.status in _FINAL and kind.startswith(("run_", "step_created")):
            raise w.EntityConflictError(f"Run {run_id} is {run.status}")
        if kind == "run_created":
            run = self._runs[run_id] = _new_run(run_id, data, now)
        elif kind in _RUN_CLASSES:
            run = self._runs[run_id] = _changed_run(run, data, now)
        elif kind.startswith("step_"):
            step = self._step(run_id, data, now)
        elif kind.startswith("hook_"):
            hook = self._hook(run_id, data, now)
        elif kind.startswith("wait_"):
            self._claim_once(run_id, data)
        elif kind == "attr_set":
            run = self._runs[run_id] = _with_attributes(run, data, now)
        log = self._events[run_id]
        event = data.model_copy(
            update={
                "server_props": w.ServerProps.model_construct(
                    run_id=run_id,
                    event_id=f"evnt_{len(log) + 1:026d}",
                    created_at=now,
                    resume_id=None,
                )
            }
        )
        log.append(event)
        return w.EventResult.model_construct(event=event, run=run, step=step, hook=hook)

    def _claim_once(self, run_id: str, data: Any) -> None:
        once = (run_id, data.correlation_id, data.event_type)
        if once in self._once:
            raise w.EntityConflictError(f"{data.event_type} {data.correlation_id} exists already")
        self._once.add(once)

    def _step(self, run_id: str, data: Any, now: datetime) -> Any:
        key = (run_id, data.correlation_id)
        if data.event_type == "step_created":
            self._claim_once(run_id, data)
            step: Any = w.NonFinalWorkflowStep.model_construct(
                run_id=run_id,
                step_id=data.correlation_id,
                step_name=data.event_data.step_name,
                status="pending",
                input=data.event_data.input,
                attempt=0,
                created_at=now,
                updated_at=now,
            )
        else:
            old = self._steps[key]
            if old.status in _FINAL:
                raise w.EntityConflictError(f"Step {data.correlation_id} is {old.status}")
            status, cls = _STEP_CLASSES[data.event_type]
            changes: dict[str, Any] = {"status": status, "updated_at": now}
            if data.event_type == "step_started":
                changes |= {"attempt": old.attempt + 1, "started_at": old.started_at or now}
            elif data.event_type == "step_completed":
                changes |= {"output": data.event_data.result, "completed_at": now}
            else:
                changes["error"] = data.event_data.error
                changes["retry_after"] = getattr(data.event_data, "retry_after", None)
                if data.event_type == "step_failed":
                    changes["completed_at"] = now
            step = cls.model_construct(**{**old.__dict__, **changes})
        self._steps[key] = step
        return step

    def _hook(self, run_id: str, data: Any, now: datetime) -> w.Hook | None:
        if data.event_type == "hook_created":
            self._claim_once(run_id, data)
            hook = w.Hook(
                run_id=run_id,
                hook_id=data.correlation_id,
                token=data.event_data.token,
                owner_id="floor",
                project_id="floor",
                environment="floor",
                metadata=data.event_data.metadata,
                created_at=now,
            )
            self._hooks[hook.hook_id] = self._tokens[hook.token] = hook
            return hook
        found = self._hooks.get(data.correlation_id)
        if found is None:
            raise w.HookNotFoundError(hook_id=data.correlation_id)
        if data.event_type == "hook_disposed":
            del self._hooks[found.hook_id], self._tokens[found.token]
        return found

    async def events_list(
        self, run_id: str, *, pagination: w.PaginationOptions | None = None
    ) -> w.PaginatedResult[w.Event]:
        log = self._events.get(run_id, [])
        start = int(pagination.cursor) if pagination is not None and pagination.cursor else 0
        # Without [w.Event]: pydantic would build that class anew in every call.
        return w.PaginatedResult.model_construct(
            data=log[start:], cursor=str(len(log)), has_more=False
        )

    async def runs_get(self, run_id: str) -> w.WorkflowRun:
        return self._runs[run_id]

    async def steps_get(self, run_id: str, step_id: str) -> w.WorkflowStep:
        return self._steps[run_id, step_id]

    async def hooks_get_by_token(self, token: str) -> w.Hook:
        if token not in self._tokens:
            raise w.HookNotFoundError(token=token)
        return self._tokens[token]

    # --- streams -------------------------------------------------------------------------

    async def streams_write(self, run_id: str, name: str, chunk: bytes) -> None:
        stream = self._streams[run_id, name]
        stream.chunks.append(chunk)
        stream.wake()

    async def streams_close(self, run_id: str, name: str) -> None:
        stream = self._streams[run_id, name]
        stream.closed = True
        stream.wake()

    async def streams_get(
        self, run_id: str, name: str, start_index: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        stream, index = self._streams[run_id, name], start_index or 0
        while True:
            while index < len(stream.chunks):
                yield stream.chunks[index]
                index += 1
            if stream.closed:
                return
            await stream.news.wait()

    async def streams_list(self, run_id: str) -> list[str]:
        return [name for owner, name in self._streams if owner == run_id]

    async def streams_get_chunks(
        self, run_id: str, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> w.StreamChunksPage:
        stream, start = self._streams[run_id, name], int(cursor or 0)
        found = stream.chunks[start : start + (limit or 100)]
        end = start + len(found)
        more = end < len(stream.chunks)
        return w.StreamChunksPage(
            data=[w.StreamChunk(index=start + i, data=data) for i, data in enumerate(found)],
            cursor=str(end) if more else None,
            has_more=more,
            done=stream.closed and not more,
        )

    async def streams_get_info(self, run_id: str, name: str) -> w.StreamInfo:
        stream = self._streams[run_id, name]
        return w.StreamInfo(tail_index=len(stream.chunks) - 1, done=stream.closed)


def _new_run(run_id: str, data: Any, now: datetime) -> Any:
    given = data.event_data
    return w.NonFinalWorkflowRun.model_construct(
        run_id=run_id,
        status="pending",
        deployment_id=given.deployment_id,
        workflow_name=given.workflow_name,
        spec_version=data.spec_version,
        execution_context=given.execution_context,
        input=given.input,
        attributes={},
        encryption_public_key=given.encryption_public_key,
        created_at=now,
        updated_at=now,
    )


def _changed_run(run: Any, data: Any, now: datetime) -> Any:
    status, cls = _RUN_CLASSES[data.event_type]
    changes: dict[str, Any] = {"status": status, "updated_at": now}
    if data.event_type == "run_started":
        changes["started_at"] = run.started_at or now
    else:
        changes["completed_at"] = now
    if data.event_type == "run_completed":
        changes["output"] = data.event_data.output
    elif data.event_type == "run_failed":
        changes |= {"error": data.event_data.error, "error_code": data.event_data.error_code}
    return cls.model_construct(**{**run.__dict__, **changes})


def _with_attributes(run: Any, data: Any, now: datetime) -> Any:
    attributes = dict(run.attributes)
    for change in data.event_data.changes:
        if change.value is None:
            attributes.pop(change.key, None)
        else:
            attributes[change.key] = change.value
    return run.model_copy(update={"attributes": attributes, "updated_at": now})
