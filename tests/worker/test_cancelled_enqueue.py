"""A caller that is cancelled while it enqueues: what becomes of that is nobody's unseen error."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from pathlib import Path

import pytest

from workflow_world import create_world
from workflow_world.errors import BackendError

QUEUE = "__wkf_workflow_greet"


@pytest.mark.anyio
async def test_a_failure_that_nobody_waits_for_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def fails(*arguments: object, **named: object) -> None:
        entered.set()
        await go_on.wait()
        raise BackendError("gone")

    async def handler(message: object, **about: object) -> None: ...

    world = create_world(f"file:{tmp_path / 'w.db'}")
    world.create_queue_handler("__wkf_workflow_", handler)
    async with world:
        monkeypatch.setattr(world.backend.messages, "enqueue_and_claim", fails)
        caller = asyncio.create_task(world.queue(QUEUE, {"runId": "wrun_1"}))
        await entered.wait()
        caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await caller
        go_on.set()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
    gc.collect()
    assert not [text for text in caplog.messages if "never retrieved" in text]
