"""What a worker says of leases: nothing of those that ended because it settled the message."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workflow_world import World, create_world

QUEUE = "__wkf_workflow_greet"
LEASE_MS = 60

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = create_world(f"file:{tmp_path / 'w.db'}", lock_duration_ms=LEASE_MS)
    yield found
    await found.close()


async def test_a_settled_message_is_no_lost_lease(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats between the settlement and the moment when the worker hears of it."""
    await world.messages.stats()
    settle, settled = world.backend.messages.settle, asyncio.Event()

    async def slowly(*arguments: object) -> object:
        done = await settle(*arguments)  # type: ignore[arg-type]
        await asyncio.sleep(3 * LEASE_MS / 1000)
        settled.set()
        return done

    async def handler(message: object, **about: object) -> None: ...

    monkeypatch.setattr(world.backend.messages, "settle", slowly)
    world.create_queue_handler("__wkf_workflow_", handler)
    with caplog.at_level(logging.INFO, "workflow_world"):
        await world.start()
        await world.queue(QUEUE, {"runId": "wrun_1"})
        await settled.wait()
        await world.close()
    assert caplog.messages == []


async def test_a_result_that_is_dropped_is_told(
    world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Somebody else got the message meanwhile."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        started.set()
        await go_on.wait()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"})
    await started.wait()
    await asyncio.to_thread(take_away, tmp_path / "w.db")
    go_on.set()
    await world.close()
    (said,) = [text for text in caplog.messages if message_id in text]
    assert "its result is dropped" in said


def take_away(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE queue_messages SET lease_token = 'another'")
    connection.close()
