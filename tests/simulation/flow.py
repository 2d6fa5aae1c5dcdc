"""What workers execute: programs replayed from their log, as the SDK does, on the native API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, cast

from workflow_world import (
    EntityConflictError,
    Event,
    HookNotFoundError,
    LeaseLostError,
    NewEvent,
    RunExpiredError,
    TooEarlyError,
    World,
)
from workflow_world.http import QueueContinuation

from .book import Book
from .clock import SimulatedClock
from .plan import Part

FLOW: Final = "__wkf_workflow_program"
PING: Final = "__wkf_step_ping"
STREAM: Final = "out"
NAME: Final = "program"

Seen = dict[tuple[str, str | None], Event]


class OverError(Exception):
    """The run has ended."""


class Flow:
    """The handlers of one process."""

    def __init__(self, world: World, clock: SimulatedClock, book: Book) -> None:
        self._world, self._clock, self._book = world, clock, book
        world.create_queue_handler("__wkf_workflow_", self.handle)
        world.create_queue_handler("__wkf_step_", self.ping)

    async def ping(
        self, message: object, *, attempt: int, **about: object
    ) -> QueueContinuation | None:
        body = cast("Mapping[str, Any]", message)
        self._book.pinged(body["ping"], attempt)
        if attempt <= body["fails"]:
            raise RuntimeError(f"attempt {attempt} fails")
        return None

    async def handle(
        self, message: object, *, attempt: int, **about: object
    ) -> QueueContinuation | None:
        body = cast("Mapping[str, Any]", message)
        run_id, step_id = body["runId"], body.get("stepId")
        try:
            if step_id is not None:
                return await self._execute(run_id, step_id, attempt)
            return await self._replay(run_id)
        except OverError:
            return None

    # --- the workflow --------------------------------------------------------------------

    async def _replay(self, run_id: str) -> QueueContinuation | None:
        seen = await self._log(run_id)
        program = cast("list[list[Part]]", _data(seen["run_created", None])["input"])
        await self._once(run_id, "run_started", None, {}, seen)
        for stage in program:
            results = await asyncio.gather(*(self._part(run_id, part, seen) for part in stage))
            open_ones = [one for one in results if one is not True]
            if open_ones:
                delays = [one for one in open_ones if one is not False]
                return QueueContinuation(delay_seconds=min(delays)) if delays else None
        parts = [part for stage in program for part in stage]
        await self._world.streams.close(run_id, STREAM)
        failed = [part["id"] for part in parts if ("step_failed", part["id"]) in seen]
        if failed:
            await self._once(run_id, "run_failed", None, {"error": {"message": failed[0]}}, seen)
        else:
            output = [_data(seen["step_completed", one["id"]])["result"] for one in _steps(parts)]
            await self._once(run_id, "run_completed", None, {"output": output}, seen)
        return None

    async def _part(self, run_id: str, part: Part, seen: Seen) -> float | bool:
        """True: done; False: somebody else will wake the run; else: in so many seconds."""
        if part["kind"] == "step":
            return await self._step(run_id, part, seen)
        if part["kind"] == "hook":
            return await self._hook(run_id, part, seen)
        if part["kind"] == "attribute":
            await self._once(run_id, "attr_set", part["id"], _says(part["id"], _WORKFLOW), seen)
            return True
        due = self._clock.now() + timedelta(seconds=part["seconds"])
        await self._once(run_id, "wait_created", part["id"], {"resumeAt": due}, seen)
        if ("wait_completed", part["id"]) in seen:
            return True
        created = seen.get(("wait_created", part["id"]))
        if created is not None:
            due = cast("Any", _data(created)["resumeAt"])
        left: float = (due - self._clock.now()).total_seconds()
        if left > 0:
            return left
        await self._once(run_id, "wait_completed", part["id"], {}, seen)
        return True

    async def _hook(self, run_id: str, part: Part, seen: Seen) -> bool:
        """A hook whose token somebody else has is passed over."""
        hook_id = part["id"]
        if ("hook_conflict", hook_id) in seen:
            return True
        if ("hook_created", hook_id) not in seen:
            made = await self._last(run_id, "hook_created", hook_id, {"token": part["token"]})
            return made is not None and made.event.event_type == "hook_conflict"
        if ("hook_received", hook_id) not in seen:
            return False
        if part["disposes"]:
            with suppress(HookNotFoundError):  # an earlier delivery did it
                await self._once(run_id, "hook_disposed", hook_id, {}, seen)
        return True

    async def _step(self, run_id: str, part: Part, seen: Seen) -> bool:
        step_id = part["id"]
        if ("step_completed", step_id) in seen or ("step_failed", step_id) in seen:
            return True
        await self._once(run_id, "step_created", step_id, {"stepName": NAME, "input": part}, seen)
        body = {"runId": run_id, "stepId": step_id, "stepName": NAME}
        await self._world.queue(FLOW, body, idempotency_key=step_id)
        return False

    # --- a step --------------------------------------------------------------------------

    async def _execute(self, run_id: str, step_id: str, attempt: int) -> QueueContinuation | None:
        try:
            started = await self._create(run_id, "step_started", step_id, {})
        except TooEarlyError as error:
            return QueueContinuation(delay_seconds=error.retry_after)
        except (LeaseLostError, OverError):
            raise
        except EntityConflictError:
            await self._world.queue(FLOW, {"runId": run_id})  # ended by an earlier delivery
            return None
        step = started.step
        assert step is not None
        part = cast("Part", step.input)
        self._book.executed(step_id)
        await asyncio.sleep(part["work"])
        if part["says"]:
            writer = {"type": "step", "stepId": step_id, "attempt": step.attempt}
            await self._create(run_id, "attr_set", None, _says(step_id, writer))
        if part["chunks"]:
            chunks = [
                f"{step_id} {step.attempt} {place}".encode() for place in range(part["chunks"])
            ]
            await self._world.streams.write_multi(run_id, STREAM, chunks)
            self._book.wrote(run_id, chunks)
        if attempt <= part["raises"]:
            raise RuntimeError(f"delivery {attempt} fails")
        if step.attempt <= part["fails"]:
            again = {"error": {"message": "again"}, "retryAfter": self._clock.now() + _RETRY}
            await self._last(run_id, "step_retrying", step_id, again)
            return QueueContinuation(delay_seconds=_RETRY.total_seconds())
        if part["fatal"]:
            await self._last(run_id, "step_failed", step_id, {"error": {"message": "fatal"}})
        else:
            await self._last(run_id, "step_completed", step_id, {"result": step_id})
        await self._world.queue(FLOW, {"runId": run_id})
        return None

    # --- events --------------------------------------------------------------------------

    async def _log(self, run_id: str) -> Seen:
        seen: Seen = {}
        cursor: str | None = None
        while True:
            page = await self._world.events.list(run_id, cursor=cursor, limit=20)
            seen |= {(one.event_type, one.correlation_id): one for one in page.data}
            if not page.has_more:
                break
            cursor = page.cursor
        if any(kind in ("run_completed", "run_failed", "run_cancelled") for kind, _ in seen):
            raise OverError
        return seen

    async def _once(
        self, run_id: str, kind: str, about: str | None, data: dict[str, Any], seen: Seen
    ) -> None:
        if (kind, about) not in seen:
            await self._last(run_id, kind, about, data)

    async def _last(self, run_id: str, kind: str, about: str | None, data: dict[str, Any]) -> Any:
        """Returns: None when an earlier delivery did it."""
        try:
            return await self._create(run_id, kind, about, data)
        except LeaseLostError:
            raise
        except EntityConflictError:
            return None

    async def _create(self, run_id: str, kind: str, about: str | None, data: dict[str, Any]) -> Any:
        event = NewEvent(event_type=kind, correlation_id=about, event_data=data)
        try:
            return await self._world.events.create(run_id, event)
        except RunExpiredError:
            raise OverError from None


_RETRY: Final = timedelta(seconds=1)
_WORKFLOW: Final = {"type": "workflow"}


def _says(key: str, writer: dict[str, Any]) -> dict[str, Any]:
    value = str(writer.get("attempt", "said"))
    return {"changes": [{"key": key, "value": value}], "writer": writer}


def _data(event: Event) -> Mapping[str, Any]:
    return event.event_data or {}


def _steps(parts: list[Part]) -> list[Part]:
    return [part for part in parts if part["kind"] == "step"]
