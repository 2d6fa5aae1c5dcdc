"""Other processes' writes wake who waits here, and nobody is left waiting at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from workflow_world import World
from workflow_world.signals import QUEUE, run_topic, stream_topic
from workflow_world.sql import migrate
from workflow_world.sql.sqlite.watch import Watcher

from .conftest import MakeWorld, Spawn, ours
from .helpers import PATIENCE_S, Trace, create_run, line_of, raw, watched

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("topic", [QUEUE, run_topic("wrun_1"), stream_topic("wrun_1", "out")])
async def test_another_process_wakes_a_subscription(
    world: World, spawn: Spawn, url: str, topic: str
) -> None:
    child = spawn("chunk", url, "wrun_1", "out")
    assert await line_of(child) == "ready"
    subscription = world.backend.notifier.subscribe(topic)
    while await subscription.wait(0.5):
        pass  # it may wake for nothing at first, and is quiet then: nobody writes
    waiting = asyncio.create_task(subscription.wait(None))
    for _ in range(20):
        await world.runs.list()
    assert not waiting.done()
    child.go()
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting
    subscription.close()
    assert await line_of(child) == "written"


@pytest.mark.parametrize("wrote", [False, True], ids=["only read", "wrote"])
async def test_a_write_before_the_watchers_first_look_wakes_too(
    make_world: MakeWorld, url: str, path: Path, wrote: bool
) -> None:
    """Whoever waits has looked before: what came since must not go unnoticed."""
    migrate.upgrade(url, environ={})
    world = make_world()
    assert (await world.runs.list()).data == ()
    if wrote:
        await create_run(world, "wrun_1")
    subscription = world.backend.notifier.subscribe(QUEUE)
    with raw(path) as rival:
        rival.execute("CREATE TABLE customers (id)")
    async with asyncio.timeout(PATIENCE_S / 4):
        assert await subscription.wait(None)
    subscription.close()


@pytest.mark.parametrize("follows", [False, True], ids=["nothing", "a write"])
async def test_a_commit_among_our_own_wakes_too(
    monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld, path: Path, follows: bool
) -> None:
    """By the next transaction here, or else by the next look."""
    monkeypatch.setattr(Watcher, "start", lambda watcher: None)
    world = make_world()
    await create_run(world, "wrun_1")
    watcher = world.backend.database._watcher  # type: ignore[attr-defined]
    subscription = world.backend.notifier.subscribe(QUEUE)
    watcher.look()
    await create_run(world, "wrun_2")
    while await subscription.wait(0):
        pass  # it wakes for nothing at first
    with raw(path) as rival:
        rival.execute("CREATE TABLE customers (id)")
    watcher.look()
    assert not await subscription.wait(0), "it could be our own"
    if follows:
        await create_run(world, "wrun_3")
    else:
        watcher.look()
    async with asyncio.timeout(PATIENCE_S):
        assert await subscription.wait(None)
    subscription.close()


async def test_a_live_reader_sees_another_processs_chunk(
    world: World, spawn: Spawn, url: str
) -> None:
    child = spawn("chunk", url, "wrun_1", "out")
    assert await line_of(child) == "ready"

    async def first() -> bytes:
        async for chunk in world.streams.get("wrun_1", "out"):
            return chunk
        raise AssertionError("the stream ended")

    reading = asyncio.create_task(first())
    await asyncio.sleep(0)
    child.go()
    async with asyncio.timeout(PATIENCE_S):
        assert await reading == b"from afar"


async def test_waiting_for_a_run_sees_another_processs_end(
    world: World, spawn: Spawn, url: str
) -> None:
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", {"eventType": "run_started"})
    child = spawn("end", url, "wrun_1")
    assert await line_of(child) == "ready"
    waiting = asyncio.create_task(world.runs.wait("wrun_1"))
    child.go()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).output == "from afar"


async def test_nothing_is_polled_while_nobody_waits(trace: Trace, world: World) -> None:
    """The watcher opens its connection at the first wait, not before."""
    await create_run(world, "wrun_1")
    before = len(trace.connections)
    subscription = world.backend.notifier.subscribe(QUEUE)
    assert len(trace.connections) == before
    waiting = asyncio.create_task(subscription.wait(None))
    await watched(trace, before)
    assert len(trace.connections) == before + 1
    subscription.close()
    await waiting


async def test_close_ends_every_thread_while_somebody_waits(make_world: MakeWorld) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    subscription = world.backend.notifier.subscribe(QUEUE)
    waiting = asyncio.create_task(subscription.wait(None))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await world.close()
    assert ours() == set()
    subscription.close()
    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def test_many_opens_and_closes_leave_no_thread(make_world: MakeWorld) -> None:
    for number in range(20):
        world = make_world()
        await create_run(world, f"wrun_{number}")
        subscription = world.backend.notifier.subscribe(QUEUE)
        waiting = asyncio.create_task(subscription.wait(None))
        await asyncio.sleep(0)
        subscription.close()
        await waiting
        async with asyncio.timeout(PATIENCE_S):
            await world.close()
        assert ours() == set()
