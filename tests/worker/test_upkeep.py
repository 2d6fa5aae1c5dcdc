"""Passes of the recovery that meet what they cannot mend: all the rest of a pass is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from workflow_world import World, create_world
from workflow_world.errors import BackendError

PATIENCE_S = 20
BAD, GOOD, LATER = "wrun_1", "wrun_2", "wrun_3"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = create_world("memory:", recovery_grace_ms=0, recovery_interval_ms=20)
    yield found
    await found.close()


def woken(world: World, run_id: str) -> asyncio.Event:
    """Set when a message of the run is delivered."""
    came = asyncio.Event()

    async def handler(message: Any, **about: object) -> None:
        if message["runId"] == run_id:
            came.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    return came


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


def pruned(world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    done, prune = asyncio.Event(), world.backend.messages.prune

    async def heard(*arguments: Any, **options: Any) -> int:
        count = await prune(*arguments, **options)
        done.set()
        return count

    monkeypatch.setattr(world.backend.messages, "prune", heard)
    return done


async def test_a_run_that_no_queue_can_be_named_for(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    context = {"queueNamespace": "Bad-NS"}
    await world.runs.create(workflow_name="greet", run_id=BAD, execution_context=context)
    await world.runs.create(workflow_name="greet", run_id=GOOD)
    came = woken(world, GOOD)
    await world.start()
    await soon(came)
    await soon(pruned(world, monkeypatch))
    came = woken(world, LATER)
    await world.runs.create(workflow_name="greet", run_id=LATER)
    await soon(came)
    said = [one.message for one in caplog.records if one.levelno == logging.ERROR]
    (line,) = said  # by the first pass, and by no other
    assert BAD in line
    assert "Bad-NS" in line


async def test_a_run_that_the_database_refuses_to_wake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours are woken, messages are pruned, and it is woken as soon as that is possible:
    also by what is only done at the start."""
    wake, down = world.backend.messages.wake, True
    for run_id in (BAD, GOOD):
        await world.runs.create(workflow_name="greet", run_id=run_id)
        await world.events.create(run_id, {"eventType": "run_started"})

    async def failing(found: Any, message: Any) -> str | None:
        if down and found.run_id == BAD:
            raise BackendError("its row is locked")
        return await wake(found, message)

    monkeypatch.setattr(world.backend.messages, "wake", failing)
    came = woken(world, GOOD)
    await world.start()
    await soon(came)
    await soon(pruned(world, monkeypatch))
    came, down = woken(world, BAD), False
    await soon(came)
