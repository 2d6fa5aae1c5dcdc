"""Nothing grows: descriptors, threads, tasks and objects are after many runs what they were."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest

from workflow_world import World
from workflow_world.sql.lane import Lane

from .conftest import MakeWorld
from .helpers import FLOW, FLOWS, LONG, event, not_on_libsql

pytestmark = pytest.mark.anyio

RUNS, READS = (50_000, 100_000) if LONG else (120, 240)
WARM_UP = 15_000 if LONG else 30
"""Runs that fill the caches: 64 MiB of decoded logs are some 12,000 of these."""
ROUNDS = 5
OURS = "workflow-world"


def resident_kib() -> int:
    """Memory that this process has, where the system says."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1])


def threads() -> list[str]:
    """Ours, not the event loop's own, of which it makes some more over time."""
    return [one.name for one in threading.enumerate() if one.name.startswith(OURS)]


def counts() -> dict[str, int]:
    gc.collect()
    folder = Path("/proc/self/fd")
    return {
        "descriptors": len(os.listdir(folder)) if folder.exists() else 0,
        "threads": len(threads()),
        "tasks": len(asyncio.all_tasks()),
    }


def start_lanes(world: World) -> None:
    """Have each make its threads, which it else does when it first needs them."""
    for one in vars(world.backend.database).values():
        if isinstance(one, Lane):
            one.touch()


async def settled(tasks: int) -> None:
    """A delivery ends a moment after its run: it still has to be settled. And a thread that has
    ended a batch in place of the event loop's ends a moment after its callers have their answer."""

    def is_busy() -> bool:
        return len(asyncio.all_tasks()) > tasks or any(name.endswith("-rest") for name in threads())

    async with asyncio.timeout(30):
        while is_busy():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def work(world: World, first: int, runs: int, reads: int) -> None:
    """Runs from their creation to their end, with a step, a hook, a wait and a stream each."""

    async def one(number: int) -> None:
        run_id = f"wrun_{number:08}"
        created = event("run_created", deploymentId="d", workflowName="w", input=b"in")
        for what in (
            created,
            event("run_started"),
            event("step_created", "step", stepName="s", input=b""),
            event("step_started", "step"),
            event("step_completed", "step", result=b"out"),
            event("hook_created", "hook", token=f"token {number}"),
            event("hook_received", "hook", payload=b"p"),
            event("wait_created", "wait", resumeAt="2090-01-01T00:00:00Z"),
        ):
            await world.events.create(run_id, what)
        await world.streams.write(run_id, "out", b"chunk")
        await world.streams.close(run_id, "out")
        assert [chunk async for chunk in world.streams.get(run_id, "out")] == [b"chunk"]
        waiting = asyncio.create_task(world.runs.wait(run_id, 1800))
        await world.queue(FLOW, {"runId": run_id}, idempotency_key=run_id)
        await waiting

    async def read(number: int) -> None:
        run_id = f"wrun_{first + number % runs:08}"
        await world.events.list(run_id)
        await world.runs.get(run_id)
        await world.runs.list(limit=5)

    for start in range(first, first + runs, 50):
        await asyncio.gather(*map(one, range(start, min(start + 50, first + runs))))
    for start in range(0, reads, 50):
        await asyncio.gather(*map(read, range(start, start + 50)))


@not_on_libsql
@pytest.mark.timeout(14_400 if LONG else 300)
async def test_runs_and_reads_leave_nothing_behind(url: str, make_world: MakeWorld) -> None:
    # Of a larger pool some connections may not be wanted before the end.
    options = {"pool_size": 2} if url.startswith("postgresql") else {}
    world = make_world(url, completed_retention_s=0, idempotency_ttl_ms=0, **options)

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        await world.events.create(message["runId"], event("run_completed", output=b"out"))

    world.create_queue_handler(FLOWS, handler)
    await world.start()
    tasks = len(asyncio.all_tasks())
    share = RUNS // ROUNDS
    start_lanes(world)
    await work(world, 0, WARM_UP, READS // 2)  # connections are made when several are wanted
    await settled(tasks)
    before, objects, memory = counts(), len(gc.get_objects()), resident_kib()
    for number in range(ROUNDS):
        await work(world, WARM_UP + number * share, share, READS // ROUNDS)
        await settled(tasks)
        assert counts() == before
    grown = len(gc.get_objects()) - objects
    print(f"{memory} KiB after warm-up, {resident_kib()} KiB in the end, {grown} objects more")  # noqa: T201
    if LONG:
        assert resident_kib() <= memory * 1.05
    else:
        # What the caches keep of a run: its events, decoded, and what they hold.
        assert grown <= 60 * RUNS
    assert not world.backend.notifier._signals.keys() - {"queue"}


async def test_worlds_that_open_and_close_leave_nothing_behind(
    url: str, make_world: MakeWorld
) -> None:
    async def once() -> None:
        world = make_world(url)

        async def handler(message: object, **about: object) -> None:
            """Accepts it."""

        world.create_queue_handler(FLOWS, handler)
        await world.start()
        await world.queue(FLOW, {"runId": "wrun_1"})
        await world.close()

    await once()
    before = counts()
    for _ in range(500 if LONG else 8):
        await once()
    assert counts() == before
