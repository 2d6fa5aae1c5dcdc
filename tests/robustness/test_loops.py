"""Event loops that come and go under one World, and Worlds that nobody closes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable

import pytest

from workflow_world import World, create_world

from .helpers import FLOW, FLOWS, PATIENCE_S, create_run, event


def ours() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith("workflow-world")}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "it never happened"
        gc.collect()
        time.sleep(0.01)


class Heard:
    """A handler that remembers, for any event loop."""

    def __init__(self, world: World) -> None:
        self.runs: list[object] = []
        world.create_queue_handler(FLOWS, self._handle)

    async def _handle(self, message: object, **about: object) -> None:
        assert isinstance(message, dict)
        self.runs.append(message["runId"])

    async def has(self, run_id: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while run_id not in self.runs:  # noqa: ASYNC110  # another loop makes it so
                await asyncio.sleep(0.005)


def test_a_new_event_loop_for_each_use(url: str) -> None:
    """As a test suite does that has one World and a loop per test."""
    world = create_world(url)

    async def use(number: int) -> None:
        run_id = f"wrun_{number}"
        await create_run(world, run_id)
        await asyncio.gather(*(world.queue(FLOW, {"runId": run_id, "n": n}) for n in range(5)))
        await world.streams.write(run_id, "out", b"chunk")
        await world.streams.close(run_id, "out")
        assert [chunk async for chunk in world.streams.get(run_id, "out")] == [b"chunk"]
        assert (await world.events.list(run_id)).data[0].position == 1

    for number in range(8):
        asyncio.run(use(number))
    asyncio.run(world.close())
    assert ours() == set()


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_worker_starts_again_on_the_next_loop(url: str, cancelled: bool) -> None:
    """Nobody closed the World, and its loop is gone: nothing may think that it still works."""
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=300)
    heard = Heard(world)

    async def use(number: int) -> None:
        await world.start()
        run_id = f"wrun_{number}"
        await create_run(world, run_id)
        await world.queue(FLOW, {"runId": run_id})
        await heard.has(run_id)

    for number in range(4):
        if cancelled:
            asyncio.run(use(number))
            eventually(lambda: "workflow-world-heartbeat" not in ours())
        else:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use(number))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loop.close()
    asyncio.run(world.close())
    eventually(lambda: not ours())


def test_a_delivery_that_was_cut_off_with_its_loop_comes_again(url: str) -> None:
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=300)
    began: list[int] = []

    async def handler(message: object, **about: object) -> None:
        began.append(1)
        if len(began) == 1:
            await asyncio.Event().wait()

    world.create_queue_handler(FLOWS, handler)

    async def use(wanted: int) -> None:
        await world.start()
        if wanted == 1:
            await world.queue(FLOW, {"runId": "wrun_1"})
        async with asyncio.timeout(PATIENCE_S):
            while len(began) < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use(1))
    loop.close()  # without a chance to give the message back
    asyncio.run(use(2))
    asyncio.run(world.close())
    gc.collect()


def test_two_loops_at_once(url: str) -> None:
    """The worker is on one; the other one sends, reads, waits and closes."""
    world = create_world(url, poll_interval_ms=20)
    heard = Heard(world)
    started, loops = threading.Event(), list[asyncio.AbstractEventLoop]()

    async def work() -> None:
        loops.append(asyncio.get_running_loop())
        await world.start()
        started.set()
        async with asyncio.timeout(PATIENCE_S):
            while not world._context.closed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert started.wait(PATIENCE_S)

    async def use() -> None:
        await create_run(world, "wrun_1")
        await asyncio.gather(*(world.queue(FLOW, {"runId": f"wrun_{n}"}) for n in range(20)))
        for number in range(20):
            await heard.has(f"wrun_{number}")
        waiting = asyncio.create_task(world.runs.wait("wrun_1", PATIENCE_S))
        on_the_other = asyncio.run_coroutine_threadsafe(
            world.events.create("wrun_1", event("run_completed", output=b"")), loops[0]
        )
        await asyncio.wrap_future(on_the_other)
        assert (await waiting).status == "completed"
        await world.close()

    asyncio.run(use())
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert ours() == set()


@pytest.mark.parametrize("started", [False, True])
def test_a_world_that_is_dropped_leaves_nothing(url: str, started: bool) -> None:
    asyncio.run(_use_and_drop(url, started=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        eventually(lambda: not ours())
    before = descriptors()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(_use_and_drop(url, started=started))
        eventually(lambda: not ours())
    texts = [str(one.message) for one in said if one.category is ResourceWarning]
    assert len(texts) == 1
    assert texts[0].startswith("unclosed World on ")
    assert descriptors() == before


async def _use_and_drop(url: str, *, started: bool) -> None:
    world = create_world(url, lock_duration_ms=300)
    if started:
        Heard(world)
        await world.start()
    await world.runs.list()


def test_a_world_that_was_not_used_needs_no_close(url: str) -> None:
    create_world(url)
    gc.collect()
    eventually(lambda: not ours())


def test_a_dropped_world_does_not_disturb_the_one_that_shares_its_database(url: str) -> None:
    kept = create_world(url)

    async def use() -> None:
        dropped = create_world(url)
        await dropped.runs.list()
        del dropped
        gc.collect()
        await create_run(kept, "wrun_1")
        await kept.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(use())
    eventually(lambda: not ours())
