"""Errors that nobody foresaw, once: the worker's loops and its heartbeat say so, and go on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from workflow_world import World, create_world

PATIENCE_S = 20
QUEUE = "__wkf_workflow_greet"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = create_world(
        "memory:", recovery_grace_ms=0, recovery_interval_ms=20, lock_duration_ms=60
    )
    yield found
    await found.close()


def failing_once(monkeypatch: pytest.MonkeyPatch, store: Any, verb: str) -> None:
    real, failures = getattr(store, verb), [RuntimeError("can't start new thread")]

    def once(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(store, verb, once)


async def told_with_traceback(caplog: pytest.LogCaptureFixture) -> None:
    while not any(  # noqa: ASYNC110  # tasks and threads of the worker say it
        one.levelno == logging.ERROR and one.exc_info and one.exc_info[0] is RuntimeError
        for one in caplog.records
    ):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("verb", ["claim", "prune", "reap", "stranded"])
async def test_a_loop_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    came = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        came.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    backend = world.backend
    failing_once(monkeypatch, backend.runs if verb == "stranded" else backend.messages, verb)
    async with asyncio.timeout(PATIENCE_S):
        await told_with_traceback(caplog)
        # Only a pass of the recovery finds the run, and only a claim its message.
        await world.runs.create(workflow_name="greet")
        await came.wait()


async def test_the_heartbeat_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    extended, loop = asyncio.Event(), asyncio.get_running_loop()
    extend = world.backend.messages.extend

    def heard(*arguments: Any) -> frozenset[str]:
        loop.call_soon_threadsafe(extended.set)
        return extend(*arguments)

    async def handler(message: object, **about: object) -> None:
        await extended.wait()

    monkeypatch.setattr(world.backend.messages, "extend", heard)
    failing_once(monkeypatch, world.backend.messages, "extend")
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    await world.queue(QUEUE, {"runId": "wrun_1", "stepId": "s"})
    async with asyncio.timeout(PATIENCE_S):
        await extended.wait()
        await told_with_traceback(caplog)
    assert [one for one in threading.enumerate() if one.name == "workflow-world-heartbeat"]
