"""Messages are pruned while runs start, by several processes at once that die in the middle of it:
what is alive is not touched, and nothing forgets what it knew by a message that is gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from workflow_world import (
    EntityConflictError,
    Message,
    MessageNotFoundError,
    World,
)
from workflow_world.check import check

from .conftest import MakeWorld, Spawn
from .helpers import FLOW, FLOWS, LONG, STEP, STEPS, event, not_on_libsql, until

pytestmark = pytest.mark.anyio

RUNS, AT_ONCE = (10_000, 40) if LONG else (80, 20)
HELD = 5
KEPT = "__wkf_workflow_nobody"


class Application:
    """Runs with a step each; then half of them end, and half wait for a hook for good.

    Every delivery is counted by its message. ``sleeping`` are messages that are not due for an
    hour, as they were stored; ``held`` are in a delivery until ``let_go``.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.delivered = Counter[str]()
        self.sleeping: list[Message] = []
        self.held: list[str] = []
        self.let_go = asyncio.Event()
        world.create_queue_handler(FLOWS, self._replay)
        world.create_queue_handler(STEPS, self._step)

    async def hold(self) -> None:
        for number in range(HELD):
            await self.world.queue(FLOW, {"runId": f"wrun_held_{number}", "hold": True})

        async def are_held() -> bool:
            return len(self.held) == HELD

        await until(are_held)

    async def is_quiet(self) -> bool:
        page = await self.world.messages.list(status="processing")
        return not page.data

    async def one(self, number: int) -> None:
        run_id = f"wrun_{number:05}"
        created = event("run_created", deploymentId="d", workflowName="w", input=b"")
        await self.world.events.create(run_id, created)
        if number % 4 == 0:
            later = await self.world.queue(KEPT, {"runId": run_id}, delay_seconds=3600)
            self.sleeping.append(await self.world.messages.get(later))
        first = await self.world.queue(FLOW, {"runId": run_id}, idempotency_key=run_id)
        await until(lambda: self.is_done(run_id), run_id)
        if number % 5 == 0:
            await self._again(first)

    async def is_done(self, run_id: str) -> bool:
        if int(run_id[-5:]) % 2:
            return (await self.world.runs.get(run_id)).is_final
        return bool((await self.world.hooks.list(run_id)).data)

    async def _again(self, message_id: str) -> None:
        """One that comes back just before a pruner gets it is alive, and is delivered."""
        with suppress(MessageNotFoundError, EntityConflictError):
            await self.world.messages.retry(message_id)

            async def came() -> bool:
                return self.delivered[message_id] == 2

            await until(came, "a message that was made pending again was pruned")

    async def _replay(self, message: object, *, message_id: str, **about: object) -> None:
        assert isinstance(message, dict)
        self.delivered[message_id] += 1
        run_id = message["runId"]
        if "hold" in message:
            self.held.append(message_id)
            await self.let_go.wait()
            return
        log = {one.event_type for one in (await self.world.events.list(run_id)).data}
        if "run_started" not in log:
            await self._once(run_id, "run_started")
            await self._once(run_id, "step_created", "step", stepName="s", input=b"")
            body = {"runId": run_id, "stepId": "step", "stepName": "s"}
            await self.world.queue(STEP, body, idempotency_key=f"step of {run_id}")
        elif "step_completed" in log and int(run_id[-5:]) % 2:
            await self._once(run_id, "run_completed", output=b"")
        elif "step_completed" in log:
            await self._once(run_id, "hook_created", "hook", token=f"token {run_id}")

    async def _step(self, message: object, *, message_id: str, **about: object) -> None:
        assert isinstance(message, dict)
        self.delivered[message_id] += 1
        await self._once(message["runId"], "step_started", "step")
        await self._once(message["runId"], "step_completed", "step", result=b"")
        await self.world.queue(FLOW, {"runId": message["runId"]})

    async def _once(self, run_id: str, kind: str, key: str | None = None, **data: Any) -> None:
        with suppress(EntityConflictError):
            await self.world.events.create(run_id, event(kind, key, **data))


@not_on_libsql
@pytest.mark.timeout(7_200 if LONG else 300)
async def test_pruners_that_die_touch_nothing_alive_and_leave_no_orphan(
    url: str, make_world: MakeWorld, spawn: Spawn, seed: int
) -> None:
    # Its own worker prunes as well.
    at_once = {"completed_retention_s": 0, "failed_retention_s": 0, "idempotency_ttl_ms": 0}
    world = make_world(url, recovery_interval_ms=500, shutdown_timeout_ms=0, **at_once)
    application = Application(world)
    await world.start()
    await application.hold()
    pruners = spawn(url, str(seed), script="pruning.py")
    assert await asyncio.to_thread(pruners.line) == "ready"
    for start in range(0, RUNS, AT_ONCE):
        await asyncio.gather(*map(application.one, range(start, min(start + AT_ONCE, RUNS))))
    pruners.go()
    (died,) = await asyncio.to_thread(pruners.end)
    print(f"{died} pruners died in the middle of it")  # noqa: T201
    assert int(died) >= RUNS // 40

    for message_id in application.held:
        held = await world.messages.get(message_id)
        assert (held.status, held.deliveries) == ("processing", 1)
    application.let_go.set()
    await until(application.is_quiet)
    assert len(application.sleeping) == RUNS // 4
    for before in application.sleeping:
        assert await world.messages.get(before.message_id) == before
    await world.close()
    await nothing_is_forgotten(make_world(url, recovery_grace_ms=0, **at_once), application)


async def nothing_is_forgotten(world: World, application: Application) -> None:
    """Every finished message goes, and all that it proved is still known: nobody is woken for an
    outcome that was seen."""
    upkeep = world._worker._upkeep
    await upkeep.prune()
    left = (await world.messages.list(limit=1000)).data
    assert {one.status for one in left} == {"pending"}
    assert {one.queue_name for one in left} == {KEPT}
    assert await upkeep.sweep(at_start=True) == 0
    assert not (await check(world)).findings
