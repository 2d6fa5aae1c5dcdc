"""Stopping while a claim is under way: what it brings is left to others, at once and for free."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from workflow_world import create_world
from workflow_world.backend import Claim

QUEUE = "__wkf_workflow_greet"


@pytest.mark.anyio
async def test_a_claim_that_ends_after_the_stop_delivers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file:{tmp_path / 'w.db'}"
    delivered: list[object] = []
    claimed, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        delivered.append(message)

    world = create_world(url)
    world.create_queue_handler("__wkf_workflow_", handler)
    message_id = await world.queue(QUEUE, {"n": 1})
    claim = world.backend.messages.claim

    async def answered_late(**options: Any) -> Claim:
        found = await claim(**options)
        claimed.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(world.backend.messages, "claim", answered_late)
    await world.start()
    await claimed.wait()
    closing = asyncio.create_task(world.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert delivered == []
    async with create_world(url) as later:
        message = await later.messages.get(message_id)
    assert (message.status, message.attempt, message.deliveries) == ("pending", 1, 0)
    assert message.available_at <= message.updated_at
