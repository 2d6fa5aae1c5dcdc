"""A workflow on the World's own API, replayed from its log: two steps, a sleep, a hook, a stream.

It does what the SDK does, so that a process can be killed at any statement without the seconds
that starting the SDK takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from workflow_world import EntityConflictError, Event, NewEvent, World
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.http import QueueContinuation

RUN, FLOW, STEP = "wrun_tiny", "__wkf_workflow_tiny", "__wkf_step_tiny"
TOKEN = "tiny"  # noqa: S105
NAP = timedelta(milliseconds=15)


class Tiny:
    """The handlers of one process. ``traces`` gets a line for each execution of a step."""

    def __init__(self, world: World, traces: Path) -> None:
        self._world, self._traces = world, traces
        world.create_queue_handler("__wkf_workflow_", self.replay)
        world.create_queue_handler("__wkf_step_", self.execute)

    async def begin(self) -> None:
        """Start the run, unless it was started."""
        data = {"deploymentId": "d", "workflowName": "tiny", "input": b"in"}
        await self._once("run_created", None, data)
        await self._world.queue(FLOW, {"runId": RUN})

    async def resume(self) -> None:
        """Send the hook its payload, exactly once however often this is called."""
        event = NewEvent(
            event_type="hook_received",
            correlation_id="hook_1",
            event_data={"payload": b"hello"},
        )
        await self._world.events.create(RUN, event, resume_id="resume_1")
        await self._world.queue(FLOW, {"runId": RUN})

    async def replay(self, message: object, **about: object) -> QueueContinuation | None:
        log = [*(await self._world.events.list(RUN)).data]
        if log[-1].event_type == "run_completed":
            return None
        seen = {(event.event_type, event.correlation_id) for event in log}
        if ("run_started", None) not in seen:
            await self._once("run_started")
        await self._step("step_1", seen)
        if ("step_completed", "step_1") not in seen:
            return None
        await self._once("hook_created", "hook_1", {"token": TOKEN}, seen)
        due = SYSTEM_CLOCK.now() + NAP
        await self._once("wait_created", "wait_1", {"resumeAt": due}, seen)
        await self._step("step_2", seen)
        left = await self._wake(seen)
        if left is not None:
            return QueueContinuation(delay_seconds=left)
        if not {("step_completed", "step_2"), ("hook_received", "hook_1")} <= seen:
            return None
        if (await self._world.streams.get_info(RUN, "out")).tail_index < 0:
            await self._world.streams.write(RUN, "out", b"the end")
        await self._world.streams.close(RUN, "out")
        await self._once("hook_disposed", "hook_1", None, seen)
        await self._once("run_completed", None, {"output": b"out"}, seen)
        return None

    async def execute(self, message: object, **about: object) -> None:
        assert isinstance(message, Mapping)
        step_id = str(message["stepId"])
        try:
            started = NewEvent(event_type="step_started", correlation_id=step_id)
            await self._world.events.create(RUN, started)
        except EntityConflictError:
            pass  # completed before, by a delivery that was cut off
        else:
            with self._traces.open("a") as traces:
                traces.write(f"{step_id}\n")
            await self._once("step_completed", step_id, {"result": step_id.encode()})
        await self._world.queue(FLOW, {"runId": RUN})

    async def _step(self, step_id: str, seen: set[tuple[str, str | None]]) -> None:
        await self._once("step_created", step_id, {"stepName": "tiny", "input": b""}, seen)
        if ("step_completed", step_id) not in seen:
            body = {"runId": RUN, "stepId": step_id, "stepName": "tiny"}
            await self._world.queue(STEP, body, idempotency_key=step_id)

    async def _wake(self, seen: set[tuple[str, str | None]]) -> float | None:
        """Complete the sleep when it is over. Returns: seconds until then, else None."""
        if ("wait_completed", "wait_1") in seen:
            return None
        (wait,) = [
            event
            for event in (await self._world.events.list(RUN)).data
            if event.event_type == "wait_created"
        ]
        left = (_resume_at(wait) - SYSTEM_CLOCK.now()).total_seconds()
        if left > 0:
            return left
        await self._once("wait_completed", "wait_1")
        return None

    async def _once(
        self,
        kind: str,
        about: str | None = None,
        data: Mapping[str, Any] | None = None,
        seen: set[tuple[str, str | None]] | None = None,
    ) -> None:
        if seen is not None and (kind, about) in seen:
            return
        try:
            event = NewEvent(event_type=kind, correlation_id=about, event_data=data)
            await self._world.events.create(RUN, event)
        except EntityConflictError:
            pass  # a delivery before this one did it


def _resume_at(wait: Event) -> Any:
    return (wait.event_data or {})["resumeAt"]
