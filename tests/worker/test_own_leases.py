"""After a halt longer than the lease a worker keeps what it delivers, unless another took it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow_world import World, create_world
from workflow_world.backend import Claim
from workflow_world.testing import ManualClock

QUEUE = "__wkf_workflow_greet"
PATIENCE_S = 20
LEASE_S = 3600
"""By the manual clock; the heartbeat, by real time, does not beat within a test."""

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory:", "file:{}/w.db"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


class WatchedClock(ManualClock):
    """Says when the recovery waits between two passes: nothing else of a worker waits so long."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = asyncio.Event()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        if timeout is not None and timeout > 1:
            self.waited_for.set()
        return await super().wait(event, timeout)


class Held:
    """A handler that works on its first message until it is let go; others it only counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.entered, self.another, self.opened = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, message: object, *, message_id: str, **about: object) -> None:
        self.calls.append(message_id)
        if self.entered.is_set():
            self.another.set()
        else:
            self.entered.set()
            await self.opened.wait()


async def holding(url: str, clock: ManualClock, handler: Held, **options: Any) -> tuple[World, str]:
    world = create_world(url, clock=clock, lock_duration_ms=LEASE_S * 1000, **options)
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    message_id = await world.queue(QUEUE, {"runId": "wrun_1", "stepId": "s"})
    await soon(handler.entered)
    return world, message_id


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


async def ends_with(world: World, handler: Held, message_id: str, *others: str) -> None:
    """The held delivery is still the only one of its message, and counts."""
    handler.opened.set()
    async with asyncio.timeout(PATIENCE_S):
        while (await world.messages.get(message_id)).status != "completed":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await world.close()
    assert handler.calls == [message_id, *others]


async def test_a_claim_does_not_take_what_this_worker_delivers(url: str) -> None:
    clock, handler = ManualClock(), Held()
    world, message_id = await holding(url, clock, handler, recovery_interval_ms=10**9)
    clock.advance(LEASE_S + 1)
    other = await world.queue(QUEUE, {"runId": "wrun_2", "stepId": "s"}, delay_seconds=0.001)
    clock.advance(1)
    world.create_queue_handler("__wkf_workflow_x", handler)  # wakes
    await soon(handler.another)
    await ends_with(world, handler, message_id, other)


async def test_a_claim_whose_answer_came_after_its_lease(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leases that it brought have run out before their deliveries begin."""
    clock, handler = ManualClock(), Held()
    world = create_world(
        url, clock=clock, lock_duration_ms=LEASE_S * 1000, recovery_interval_ms=10**9
    )
    message_id = await world.queue(QUEUE, {"runId": "wrun_1", "stepId": "s"})
    claim = world.backend.messages.claim

    async def answered_late(**options: Any) -> Claim:
        found = await claim(**options)
        if found.messages and not handler.entered.is_set():
            clock.advance(LEASE_S + 1)
        return found

    monkeypatch.setattr(world.backend.messages, "claim", answered_late)
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    await soon(handler.entered)
    other = await world.queue(QUEUE, {"runId": "wrun_2", "stepId": "s"})
    await soon(handler.another)
    await ends_with(world, handler, message_id, other)


async def test_the_recovery_does_not_free_what_this_worker_delivers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, handler = WatchedClock(), Held()
    world, message_id = await holding(url, clock, handler, concurrency=1)
    await soon(clock.waited_for)
    reaped, reap = asyncio.Event(), world.backend.messages.reap

    async def heard() -> int:
        count = await reap()
        reaped.set()
        return count

    monkeypatch.setattr(world.backend.messages, "reap", heard)
    clock.advance(LEASE_S + 1)
    await soon(reaped)
    message = await world.messages.get(message_id)
    assert (message.status, message.deliveries) == ("processing", 1)
    await ends_with(world, handler, message_id)


async def test_what_another_took_meanwhile_is_lost(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, handler = ManualClock(), Held()
    world, message_id = await holding(url, clock, handler, recovery_interval_ms=10**9)
    store, lease = world.backend.messages, timedelta(seconds=LEASE_S)
    clock.advance(LEASE_S + 1)
    taken = await store.claim(limit=1, lease=lease, serialize_runs=False, prefixes=None)
    assert [one.message_id for one in taken.messages] == [message_id]
    clock.advance(LEASE_S / 2 + 1)
    other = await world.queue(QUEUE, {"runId": "wrun_2", "stepId": "s"})
    await soon(handler.another)
    handler.opened.set()
    await world.close()
    assert handler.calls == [message_id, other]
    assert any("its result is dropped" in text and message_id in text for text in caplog.messages)
