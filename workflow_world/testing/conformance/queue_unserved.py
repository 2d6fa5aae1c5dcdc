"""Messages that nobody takes: found at the seam, and said by a worker."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from ...backend import OLDEST
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    LONG_LEASE_MS,
    PREFIX,
    QUEUE_NAME,
    Recorder,
    advance_until,
    claim_one,
    complete,
    put,
    store_of,
    working,
)

OTHER = "__other_wkf_workflow_greet"
STEPS = "__wkf_step_add"
MINUTE = timedelta(minutes=1)


@pytest.mark.anyio
async def test_unserved_queues_are_found(world: World, clock: ManualClock) -> None:
    """Those outside of the prefixes, with the time at which their first message fell due."""
    store = await store_of(world)
    await put(world, queue_name=OTHER, available_at=START - timedelta(seconds=5))
    await put(world, queue_name=OTHER, available_at=START - timedelta(seconds=9))
    await put(world, queue_name=STEPS)
    await put(world, queue_name=QUEUE_NAME)
    clock.advance(55)
    due = START - timedelta(seconds=9)
    assert await store.unserved(prefixes=[PREFIX], overdue=MINUTE) == {OTHER: due}
    clock.advance(5)
    assert await store.unserved(prefixes=[PREFIX], overdue=MINUTE) == {OTHER: due, STEPS: START}
    prefixes = [PREFIX, "__wkf_step_"]
    assert await store.unserved(prefixes=prefixes, overdue=MINUTE) == {OTHER: due}
    assert await store.unserved(prefixes=["__"], overdue=MINUTE) == {}
    everything = {OTHER: due, STEPS: START, QUEUE_NAME: START}
    assert await store.unserved(prefixes=(), overdue=MINUTE) == everything


@pytest.mark.anyio
async def test_only_what_waits_is_unserved(world: World, clock: ManualClock) -> None:
    """Not what is delayed, in delivery, or done."""
    store = await store_of(world)
    await complete(world, await put(world, queue_name=OTHER), clock.now())
    await claim_one(world, await put(world, queue_name=OTHER), lease=timedelta(days=1))
    await put(world, queue_name=OTHER, delay=timedelta(days=1))
    clock.advance(3600)
    assert await store.unserved(prefixes=[PREFIX], overdue=MINUTE) == {}


@pytest.mark.anyio
async def test_unserved_looks_at_what_fell_due_first(world: World, clock: ManualClock) -> None:
    """A backlog of others' messages hides it, until it is older than what is left of them."""
    store = await store_of(world)
    names = [f"msg_{number:04}" for number in range(OLDEST)]
    await asyncio.gather(
        *(put(world, message_id=name, available_at=START - MINUTE) for name in names)
    )
    await put(world, queue_name=OTHER)
    clock.advance(60)
    assert await store.unserved(prefixes=[PREFIX], overdue=MINUTE) == {}
    assert await store.delete(names[500])
    assert await store.unserved(prefixes=[PREFIX], overdue=MINUTE) == {OTHER: START}


@pytest.mark.anyio
async def test_worker_says_what_nobody_takes(
    make_world: MakeWorld, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each queue, and never of its own."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS)
    handler = await working(world, Recorder())
    await put(world, queue_name=OTHER)
    await put(world, queue_name=QUEUE_NAME)

    def said() -> list[str]:
        return [one.getMessage() for one in caplog.records if "Nobody takes" in one.getMessage()]

    with caplog.at_level(logging.WARNING, "workflow_world"):
        await advance_until(clock, lambda: len(said()) == 1, seconds=5)
        passes = clock.now()
        await advance_until(clock, lambda: clock.now() > passes + 10 * MINUTE, seconds=5)
        (text,) = said()
        assert f"queue {OTHER}: the first fell due at {START:%Y-%m-%dT%H}" in text
        assert f"serves {PREFIX}*" in text
        assert "WORKFLOW_QUEUE_NAMESPACE" in text
    await handler.called(1)
