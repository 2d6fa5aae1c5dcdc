"""After kill -9 the next worker goes on at once; beside a live one nothing is taken (design 7)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from workflow_world import World
from workflow_world.errors import BackendError

from .conftest import MakeWorld, Spawn
from .helpers import PATIENCE_S, PREFIX, QUEUE, line_of

pytestmark = pytest.mark.anyio


def listen(world: World) -> asyncio.Queue[tuple[str, int]]:
    """What the World's worker delivers: message ids and attempts."""
    delivered: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def handler(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
        delivered.put_nowait((message_id, attempt))

    world.create_queue_handler(PREFIX, handler)
    return delivered


async def test_a_killed_workers_messages_are_claimed_at_once(
    world: World, spawn: Spawn, url: str
) -> None:
    ids = {await world.queue(QUEUE, {"n": n}) for n in range(5)}
    dead = spawn("work", url)
    assert await line_of(dead) == "started"
    assert {await line_of(dead) for _ in ids} == ids
    dead.kill()
    for message_id in ids:
        message = await world.messages.get(message_id)
        assert message.status == "processing"
        assert message.leased_until is not None
        assert message.leased_until - message.updated_at >= timedelta(minutes=9)
    delivered = listen(world)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        found = {await delivered.get() for _ in ids}
    assert found == {(message_id, 1) for message_id in ids}
    await world.close()


async def test_beside_a_live_worker_leases_are_left_alone(
    world: World, spawn: Spawn, url: str
) -> None:
    message_id = await world.queue(QUEUE, {})
    alive = spawn("work", url)
    assert await line_of(alive) == "started"
    assert await line_of(alive) == message_id
    before = await world.messages.get(message_id)
    delivered = listen(world)
    await world.start()
    assert await world.messages.get(message_id) == before
    assert delivered.empty()


async def test_a_dead_workers_leases_are_not_freed_while_another_lives(
    make_world: MakeWorld, world: World, spawn: Spawn, url: str
) -> None:
    """Nobody can tell whose they are, so their end decides."""
    message_id = await world.queue(QUEUE, {})
    dead = spawn("work", url)
    assert await line_of(dead) == "started"
    assert await line_of(dead) == message_id
    await make_world().start()  # without a handler: alive, and claims nothing
    dead.kill()
    before = await world.messages.get(message_id)
    await make_world(synchronous="normal").start()
    assert await world.messages.get(message_id) == before
    assert before.status == "processing"


async def test_two_workers_of_one_process_count_as_two(
    make_world: MakeWorld, world: World, spawn: Spawn, url: str
) -> None:
    await world.queue(QUEUE, {})
    first = make_world(shutdown_timeout_ms=1)
    busy = asyncio.Event()

    async def handler(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
        busy.set()
        await asyncio.sleep(PATIENCE_S)

    first.create_queue_handler(PREFIX, handler)
    await first.start()
    async with asyncio.timeout(PATIENCE_S):
        await busy.wait()
    (before,) = (await world.messages.list()).data
    second = make_world()
    delivered = listen(second)
    await second.start()
    assert (await world.messages.list()).data == (before,)
    assert delivered.empty()


async def test_workers_that_start_together_all_start(make_world: MakeWorld, path: Path) -> None:
    worlds = [make_world() for _ in range(8)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(world.start() for world in worlds))
    assert path.with_name("w.db-workers").exists()


async def test_a_worker_that_left_is_not_there_any_more(
    make_world: MakeWorld, world: World, spawn: Spawn, url: str
) -> None:
    message_id = await world.queue(QUEUE, {})
    dead = spawn("work", url)
    assert await line_of(dead) == "started"
    assert await line_of(dead) == message_id
    visitor = make_world()
    await visitor.start()
    await visitor.close()
    dead.kill()
    delivered = listen(world)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        assert await delivered.get() == (message_id, 1)


async def test_only_a_worker_announces_itself(world: World, path: Path) -> None:
    await world.queue(QUEUE, {})
    assert not path.with_name("w.db-workers").exists()


async def test_a_start_that_fails_leaves_no_mark(
    world: World, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or no later worker could prove that it is alone."""
    store = world.backend.messages

    async def failing() -> int:
        raise BackendError("down")

    with monkeypatch.context() as patched:
        patched.setattr(store, "reap", failing)
        with pytest.raises(BackendError):
            await world.start()
    await world.queue(QUEUE, {})
    claimed = await store.claim(
        limit=1, lease=timedelta(minutes=9), serialize_runs=False, prefixes=None
    )
    assert len(claimed.messages) == 1
    await world.close()
    later = make_world()
    delivered = listen(later)
    await later.start()
    async with asyncio.timeout(PATIENCE_S):
        assert (await delivered.get())[0] == claimed.messages[0].message_id
