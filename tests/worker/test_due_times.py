"""When a worker claims again after a claim that found nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from workflow_world import create_world
from workflow_world.backend import Claim
from workflow_world.testing import ManualClock

PATIENCE_S = 20
POLL_S = 3600

pytestmark = pytest.mark.anyio


class WatchedClock(ManualClock):
    """Says when somebody waits for as long as between two polls of the test below."""

    def __init__(self) -> None:
        super().__init__()
        self.polling = asyncio.Event()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        if timeout is not None and timeout > POLL_S / 2:
            self.polling.set()
        return await super().wait(event, timeout)


async def test_a_database_whose_clock_is_behind_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that nothing is due yet, by a time that has passed here: once more at once, for it
    may have fallen due meanwhile, and then as often as when nothing is waiting."""
    clock, claims = WatchedClock(), 0
    due = clock.now() - timedelta(seconds=5)
    world = create_world("memory:", clock=clock, poll_interval_ms=POLL_S * 1000)

    async def handler(message: object, **about: object) -> None: ...

    async def claim(**options: Any) -> Claim:
        nonlocal claims
        claims += 1
        return Claim(next_due_at=due)

    world.create_queue_handler("__wkf_workflow_", handler)
    monkeypatch.setattr(world.backend.messages, "claim", claim)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        while not clock.polling.is_set():
            clock.advance(0.001)
            await asyncio.sleep(0.001)
    assert claims == 2
    await world.close()
