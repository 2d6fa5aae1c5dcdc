"""Every operation that writes, one after another, by a client that may begin again from the top.

What an interrupted play did is found done by the next, so its end is that of an undisturbed one.
No worker runs: claims and settlements are made here, in an order that is always the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from workflow_world import NewEvent, World, WorldError, create_world
from workflow_world.check import check
from workflow_world.core.delivery import (
    Again,
    Done,
    Failed,
    Lease,
    Limits,
    Outcome,
    Released,
    settle,
)
from workflow_world.core.entities import Message
from workflow_world.testing.clock import START, ManualClock
from workflow_world.worker.attempt import failure_of_run

FLOW: Final = "__wkf_workflow_w"
HOUR: Final = timedelta(hours=1)
_ID: Final = re.compile(r"msg_\w+")
RUNS: Final = ("steps", "hooks", "rival", "cancelled", "queue", "given_up", "lost")


async def play(url: str, traces: Path) -> dict[str, Any]:
    """Everything, then what is stored. Each play begins a day later than the one before."""
    day = len(list(traces.parent.glob(f"{traces.name}.*")))
    traces.with_name(f"{traces.name}.{day}").touch()
    clock = ManualClock(START + timedelta(days=day))
    world = create_world(url, clock=clock, recovery_grace_ms=0, failed_retention_s=10**8)
    try:
        await Operations(world, clock).all()
        return await state(world)
    finally:
        await world.close()


async def state(world: World) -> dict[str, Any]:
    """What must be the same however often a process died."""
    found: dict[str, Any] = {}
    for name in RUNS:
        run_id = f"wrun_{name}"
        run, log = await world.runs.get(run_id), (await world.events.list(run_id)).data
        assert [event.position for event in log] == [*range(1, len(log) + 1)]
        found[name] = [
            [run.status, repr(run.output), _ID.sub("msg", repr(run.error)), run.error_code],
            sorted((run.attributes or {}).items()),
            [f"{event.event_type} {event.correlation_id}" for event in log],
            [
                [step.step_id, step.status, step.attempt, repr(step.output), repr(step.error)]
                for step in (await world.steps.list(run_id)).data
            ],
            [hook.hook_id for hook in (await world.hooks.list(run_id)).data],
            [wait.wait_id for wait in (await world.waits.list(run_id)).data],
        ]
    chunks = await world.streams.get_chunks("wrun_queue", "out")
    found["chunks"] = [[repr(chunk.data) for chunk in chunks.data], chunks.done]
    found["messages"] = sorted(
        [message.queue_name, message.run_id, message.status, message.attempt]
        for message in (await world.messages.list()).data
    )
    found["findings"] = [repr(finding) for finding in (await check(world)).findings]
    return found


class Operations:
    def __init__(self, world: World, clock: ManualClock) -> None:
        self._world, self._clock, self._store = world, clock, world.backend.messages

    async def all(self) -> None:
        await self.steps()
        await self.hooks()
        await self.cancel()
        await self.streams()
        await self.deliver()
        await self.give_up()
        await self.recover()
        await self.prune()

    # --- runs ----------------------------------------------------------------------------

    async def steps(self) -> None:
        """A step that is tried again and fails, attributes of both writers, a failed run."""
        run = "wrun_steps"
        await self._begin(run)
        await self._once(run, "step_created", "step_1", stepName="s", input=b"in")
        change = [{"key": "k", "value": "v"}]
        writer = {"type": "workflow"}
        await self._once(run, "attr_set", "attr_1", changes=change, writer=writer)
        await self._step(run, "pending", 0, "step_started")
        writer = {"type": "step", "stepId": "step_1", "attempt": 1}
        if "by step" not in ((await self._world.runs.get(run)).attributes or {}):
            change = [{"key": "by step", "value": "1"}]
            await self._once(run, "attr_set", None, changes=change, writer=writer)
        later = self._clock.now() + timedelta(seconds=5)
        await self._step(run, "running", 1, "step_retrying", error=b"e", retryAfter=later)
        self._clock.advance(10)
        await self._step(run, "pending", 1, "step_started")
        await self._step(run, "running", 2, "step_failed", error=b"failed")
        await self._once(run, "step_created", "step_2", stepName="s", input=b"in")
        await self._once(run, "step_completed", "step_2", result=b"out")
        await self._once(run, "run_failed", None, error=b"no", errorCode="NO")

    async def hooks(self) -> None:
        """A hook, one that wants its token, a resume, a disposal, a wait, a completed run."""
        run, rival = "wrun_hooks", "wrun_rival"
        await self._begin(run)
        await self._begin(rival)
        await self._once(run, "hook_created", "hook_1", token="token")  # noqa: S106
        await self._once(rival, "hook_created", "hook_2", token="token")  # noqa: S106
        resume = NewEvent(
            event_type="hook_received", correlation_id="hook_1", event_data={"payload": b"p"}
        )
        await self._world.events.create(run, resume, resume_id="resume_1")
        await self._once(run, "wait_created", "wait_1", resumeAt=START + HOUR)
        await self._once(run, "wait_completed", "wait_1")
        await self._once(run, "hook_disposed", "hook_1")
        await self._once(run, "run_completed", None, output=b"out")
        await self._once(rival, "run_completed", None, output=b"out")

    async def cancel(self) -> None:
        """With a live hook, an open wait and a running step."""
        run = "wrun_cancelled"
        await self._begin(run)
        await self._once(run, "hook_created", "hook_3", token="mine")  # noqa: S106
        await self._once(run, "wait_created", "wait_2", resumeAt=START + HOUR)
        await self._once(run, "step_created", "step_1", stepName="s", input=b"in")
        await self._step(run, "pending", 0, "step_started")
        if not (await self._world.runs.get(run)).is_final:
            await self._world.runs.cancel(run, reason="enough")

    # --- streams -------------------------------------------------------------------------

    async def streams(self) -> None:
        run, streams = "wrun_queue", self._world.streams
        await self._begin(run)
        if (await streams.get_info(run, "out")).tail_index < 0:
            await streams.write_multi(run, "out", [b"a", b"", b"c"])
        if (await streams.get_info(run, "out")).tail_index < 3:
            await streams.write(run, "out", b"d")
        await streams.close(run, "out")

    # --- messages ------------------------------------------------------------------------

    async def deliver(self) -> None:
        """Claimed as it is stored, extended, lost, reaped, failed, given back, sent again, done;
        another one is deleted."""
        run = "wrun_queue"
        new = self._world.messages.new_message(FLOW, {"runId": run}, idempotency_key="key")
        taken = await self._store.enqueue_and_claim(new, lease=HOUR, serialize_runs=True)
        if taken.claimed is not None:
            lease = _lease(taken.claimed)
            await asyncio.to_thread(self._store.extend, [lease], HOUR)
        self._clock.advance(2 * 3600)
        await self._store.reap()
        outcomes: tuple[Outcome, ...] = (
            Released(),
            Failed(message="once"),
            Again(delay_seconds=1, idempotency_key="key"),
            Done(),
        )
        while (await self._world.messages.get(taken.message_id)).status != "completed":
            for outcome in outcomes:
                await self._settle_one(run, outcome)
        await self._once(run, "run_completed", None, output=b"out")
        unwanted = await self._world.queue(
            FLOW, {"runId": run}, idempotency_key="unwanted", delay_seconds=10**6
        )
        await self._world.messages.delete(unwanted)

    async def give_up(self) -> None:
        """A message without attempts left fails its run. It is delivered again, as asked for."""
        run = "wrun_given_up"
        await self._begin(run)
        message_id = await self._only_message(run)
        while (await self._world.messages.get(message_id)).status not in ("failed", "completed"):
            await self._settle_one(run, Failed(message="always"))
        if (await self._world.messages.get(message_id)).status == "failed":
            await self._world.messages.retry(message_id)
        while (await self._world.messages.get(message_id)).status != "completed":
            await self._settle_one(run, Done())

    async def recover(self) -> None:
        """The sweep sends what a writer that died did not."""
        run, upkeep = "wrun_lost", self._world._worker._upkeep
        await self._once(run, "run_created", None, **_CREATED)
        await upkeep.sweep(at_start=True)
        await self._once(run, "run_started")
        await self._once(run, "step_created", "step_1", stepName="s", input=b"in")
        while await self._settle_one(run, Done()):
            pass
        self._clock.advance(1)
        await upkeep.sweep(at_start=True)
        await self._once(run, "step_completed", "step_1", result=b"out")
        await self._once(run, "run_completed", None, output=b"out")
        while await self._settle_one(run, Done()):
            pass

    async def prune(self) -> None:
        """Of all messages one is left: it failed, and those are kept longer."""
        run = "wrun_rival"
        await self._only_message(run)
        while await self._settle_one(run, Failed(message="always")):
            pass
        self._clock.advance(20 * 3600)
        await self._world._worker._upkeep.prune()

    # --- shared --------------------------------------------------------------------------

    async def _begin(self, run_id: str) -> None:
        await self._once(run_id, "run_created", None, **_CREATED, attributes={"a": "1"})
        await self._once(run_id, "run_started")

    async def _only_message(self, run_id: str) -> str:
        """Sent, unless it was before: one that failed leaves its key to others."""
        sent = (await self._world.messages.list(run_id=run_id)).data
        if sent:
            return sent[0].message_id
        return await self._world.queue(FLOW, {"runId": run_id})

    async def _once(self, run_id: str, kind: str, about: str | None = None, **data: object) -> None:
        """The event, unless it was written before this play."""
        event = NewEvent(event_type=kind, correlation_id=about, event_data=data or None)
        try:
            await self._world.events.create(run_id, event)
        except WorldError as error:
            if error.status not in (404, 409, 410):
                raise

    async def _step(
        self, run_id: str, status: str, attempt: int, kind: str, **data: object
    ) -> None:
        """The event, if the step is where the event finds it in an undisturbed play."""
        step = await self._world.steps.get(run_id, "step_1")
        if (step.status, step.attempt) == (status, attempt):
            await self._once(run_id, kind, "step_1", **data)

    async def _settle_one(self, run_id: str, outcome: Outcome) -> bool:
        """Claim the run's message, much later, and settle it. Returns: whether there was one.

        What an interrupted play left for another run is given back.
        """
        self._clock.advance(100)
        claim = await self._store.claim(limit=9, lease=HOUR, serialize_runs=True, prefixes=None)
        for message in claim.messages:
            due = outcome if message.run_id == run_id else Released()
            ended = settle(message, due, now=self._clock.now(), spread=0, limits=Limits())
            intent = failure_of_run(message, ended)
            await self._store.settle([(ended, intent)])
        return any(message.run_id == run_id for message in claim.messages)


_CREATED: Final[Mapping[str, Any]] = {"deploymentId": "d", "workflowName": "w", "input": b"in"}


def _lease(message: Message) -> Lease:
    assert message.lease_token is not None
    return Lease(message_id=message.message_id, token=message.lease_token)
