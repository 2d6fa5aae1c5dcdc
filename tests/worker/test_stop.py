"""Stopping while something is under way: it ends soon, and what is left over is for others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from workflow_world import create_world
from workflow_world.backend import Claim

QUEUE = "__wkf_workflow_greet"
PATIENCE_S = 20


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


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ["prune", "stranded"])
async def test_a_pass_of_the_recovery_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    world, under_way = create_world("memory:"), asyncio.Event()

    async def without_end(*arguments: Any, **options: Any) -> Any:
        under_way.set()
        await asyncio.sleep(0)
        return 1 if verb == "prune" else ((), "wrun_1")

    store = world.backend.messages if verb == "prune" else world.backend.runs
    monkeypatch.setattr(store, verb, without_end)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        await under_way.wait()
        await world.close()


@pytest.mark.anyio
async def test_a_handler_that_catches_its_cancellation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be ended, but its message is given back, and what it comes to is dropped."""
    url = f"file:{tmp_path / 'w.db'}"
    entered, go_on, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        entered.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        left.set()

    world = create_world(url, shutdown_timeout_ms=20)
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    message_id = await world.queue(QUEUE, {"n": 1})
    async with asyncio.timeout(PATIENCE_S):
        await entered.wait()
        await world.close()
    assert not left.is_set()
    errors = [one.message for one in caplog.records if one.levelname == "ERROR"]
    assert any(message_id in line for line in errors), errors
    later = create_world(url)  # not started: it delivers nothing
    try:
        released = await later.messages.get(message_id)
        go_on.set()
        await left.wait()
        await asyncio.sleep(0)
        assert await later.messages.get(message_id) == released
    finally:
        await later.close()
    assert (released.status, released.attempt, released.lease_token) == ("pending", 1, None)
    assert released.deliveries == 0
    assert any("its result is dropped" in text for text in caplog.messages)


@pytest.mark.anyio
async def test_a_world_that_is_closed_while_it_starts_works_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = create_world(f"file:{tmp_path / 'w.db'}")
    await world.runs.list()
    before = asyncio.all_tasks()
    reap, under_way, go_on = world.backend.messages.reap, asyncio.Event(), asyncio.Event()

    async def answered_late() -> int:
        under_way.set()
        await go_on.wait()
        return await reap()

    monkeypatch.setattr(world.backend.messages, "reap", answered_late)
    starting = asyncio.create_task(world.start())
    await under_way.wait()
    closing = asyncio.create_task(world.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(starting, closing, return_exceptions=True)
    ours = {thread.name for thread in threading.enumerate() if "workflow-world" in thread.name}
    assert ours == set()
    assert asyncio.all_tasks() == before
