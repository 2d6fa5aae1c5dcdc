"""Deliveries whose lease somebody else has taken over: they write nothing more (B140)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ...core.events import NewEvent
from ...errors import EntityConflictError, LeaseLostError
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    LONG_LEASE_MS,
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Gate,
    Recorder,
    claim_one,
    message_in,
    soon,
    store_of,
    working,
)

RUN = "wrun_1"
_ALONE: dict[str, Any] = {
    "lock_duration_ms": LONG_LEASE_MS,
    "recovery_interval_ms": 10 * LONG_LEASE_MS,
    "concurrency": 1,
}
"""A worker that neither frees leases while the clock is moved on, nor claims anything else."""

Write = Callable[[World], Awaitable[object]]


def event(kind: str, about: str | None = None, **data: object) -> Write:
    made = NewEvent(event_type=kind, correlation_id=about, event_data=data or None)
    return lambda world: world.events.create(RUN, made)


_WRITES: dict[str, Write] = {
    "event": event("step_created", "step_2", stepName="s", input=b""),
    "outcome": event("step_completed", "step_1", result=b"of the zombie"),
    "end of the run": event("run_completed", output=b"of the zombie"),
    "new run": lambda world: world.runs.create(workflow_name="child", run_id="wrun_child"),
    "message": lambda world: world.queue(STEP_QUEUE_NAME, {"runId": RUN}),
    "wake-up": lambda world: world.queue(QUEUE_NAME, {"runId": RUN}),
    "delayed message": lambda world: world.queue(QUEUE_NAME, {"n": 1}, delay_seconds=5),
    "chunk": lambda world: world.streams.write(RUN, "out", b"of the zombie"),
    "end of a stream": lambda world: world.streams.close(RUN, "out"),
}


class Zombie:
    """A handler that writes when its gate opens, and notes what came of it."""

    def __init__(self, world: World, write: Write) -> None:
        self.gate = Gate()
        self.error: BaseException | None = None
        self.wrote = False
        self._world, self._write = world, write

    async def __call__(self) -> None:
        await self.gate()
        try:
            await self._write(self._world)
            self.wrote = True
        except LeaseLostError as error:
            self.error = error
            raise


async def begun(world: World, write: Write) -> tuple[Zombie, str]:
    """A run with a running step, and a delivery that stands at its gate."""
    await world.runs.create(workflow_name="w", run_id=RUN)
    await event("run_started")(world)
    await event("step_created", "step_1", stepName="s", input=b"")(world)
    await event("step_started", "step_1")(world)
    # Else recovery would send it.
    await world.queue(STEP_QUEUE_NAME, {"runId": RUN, "stepId": "step_1", "stepName": "s"})
    zombie = Zombie(world, write)
    await working(world, Recorder(zombie))
    message_id = await world.queue(QUEUE_NAME, {"runId": RUN, "runInput": {"n": 1}})
    await soon(zombie.gate.entered)
    return zombie, message_id


async def content(world: World) -> list[object]:
    """Everything that a delivery could have written."""
    return [
        await world.runs.list(),
        await world.events.list(RUN),
        await world.steps.list(RUN),
        await world.messages.list(),
        await world.streams.list(RUN),
        await world.streams.get_info(RUN, "out"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES.keys())
async def test_b140_delivery_that_lost_its_lease_writes_nothing(
    make_world: MakeWorld, clock: ManualClock, write: Write
) -> None:
    """Another worker has taken the message over: the first one's writes are refused."""
    world, rival = make_world(**_ALONE), make_world()
    zombie, message_id = await begun(world, write)
    clock.advance(LONG_LEASE_MS / 1000)
    await claim_one(rival, message_id, prefixes=[PREFIX])
    before = await content(rival)
    zombie.gate.opened.set()
    await world.close()
    assert isinstance(zombie.error, LeaseLostError)
    assert isinstance(zombie.error, EntityConflictError)
    assert (zombie.error.status, zombie.error.code) == (409, "LEASE_LOST")
    assert zombie.error.message_id == message_id
    assert await content(rival) == before


@pytest.mark.anyio
@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES.keys())
async def test_b140_lease_that_nobody_took_still_counts(
    make_world: MakeWorld, clock: ManualClock, write: Write
) -> None:
    """Late is not lost: as long as no other claim was made, the delivery goes on."""
    world = make_world(**_ALONE)
    zombie, message_id = await begun(world, write)
    clock.advance(LONG_LEASE_MS / 1000)
    zombie.gate.opened.set()
    await message_in(world, message_id, "completed")
    assert zombie.wrote


@pytest.mark.anyio
async def test_b140_lease_that_was_freed_is_lost(make_world: MakeWorld, clock: ManualClock) -> None:
    """The periodic pass has returned the message to the queue."""
    world, rival = make_world(**_ALONE), make_world()
    zombie, _ = await begun(world, _WRITES["outcome"])
    clock.advance(LONG_LEASE_MS / 1000)
    assert await (await store_of(rival)).reap() == 1
    zombie.gate.opened.set()
    await world.close()
    assert zombie.error is not None
    assert (await rival.steps.get(RUN, "step_1")).status == "running"


@pytest.mark.anyio
async def test_b140_others_may_write_meanwhile(make_world: MakeWorld, clock: ManualClock) -> None:
    """Only the delivery itself is refused, not what else its process does."""
    world, rival = make_world(**_ALONE), make_world()
    zombie, message_id = await begun(world, _WRITES["chunk"])
    clock.advance(LONG_LEASE_MS / 1000)
    await claim_one(rival, message_id, prefixes=[PREFIX])
    await world.streams.write(RUN, "out", b"of somebody else")
    await _WRITES["event"](world)
    zombie.gate.opened.set()
    await world.close()
    assert zombie.error is not None
    assert (await rival.streams.get_info(RUN, "out")).tail_index == 0
