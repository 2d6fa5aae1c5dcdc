"""What is settled together, when one of it cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from workflow_world import World, create_world
from workflow_world.errors import BackendError
from workflow_world.worker.held import Held

PATIENCE_S = 20
QUEUE = "__wkf_step_greet"

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = create_world("memory:", concurrency=3, shutdown_timeout_ms=100)
    yield found
    await found.close()


async def test_one_that_cannot_be_stored_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls, came = world.backend.messages, list[int](), asyncio.Event()
    real = store.settle

    async def settle(settlements: Sequence[Any]) -> Sequence[bool]:
        if any(one.message_id == ids[0] for one, _ in settlements):
            raise BackendError("This row is damaged", code="CORRUPT")
        return await real(settlements)

    async def handler(message: Any, **_: object) -> None:
        calls.append(message["n"])
        if len(calls) == 3:
            came.set()
        await came.wait()

    monkeypatch.setattr(store, "settle", settle)
    world.create_queue_handler("__wkf_step_", handler)
    ids = [await world.queue(QUEUE, {"n": n}) for n in range(3)]
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        for message_id in ids[1:]:
            while (await world.messages.get(message_id)).status != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert sorted(calls) == [0, 1, 2]


async def test_slots_are_counted_after_a_long_extension(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is enqueued meanwhile may have taken them."""
    extending, go_on, late = asyncio.Event(), asyncio.Event(), [False]
    at_once, most, done = 0, 0, asyncio.Event()

    async def renew(self: Held) -> None:
        if late == [True]:
            late[0] = False
            extending.set()
            await go_on.wait()

    async def handler(message: object, **_: object) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await done.wait()
        at_once -= 1

    monkeypatch.setattr(Held, "renew", renew)
    world.create_queue_handler("__wkf_step_", handler)
    async with asyncio.timeout(PATIENCE_S):
        await world.start()
        late[0] = True
        await extending.wait()
        for n in range(3):
            await world.queue(QUEUE, {"n": n})
        for n in range(3):
            await world.backend.messages.enqueue(world.messages.new_message(QUEUE, {"n": n}))
        go_on.set()
        await asyncio.sleep(0.3)
        assert most == 3
        done.set()
        while not (await world.messages.list(status="completed")).data[5:]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert most == 3
