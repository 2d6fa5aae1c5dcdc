"""Beside live workers there is no false alarm, from this process or from another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from workflow_world import World, create_world
from workflow_world.check import Report, apply, check, plan_repairs

pytestmark = pytest.mark.anyio

CHILD = Path(__file__).with_name("live_child.py")
PREFIX = "__wkf_workflow_"
QUEUE = f"{PREFIX}greet"


async def until_done(world: World, work: asyncio.Task[None]) -> list[Report]:
    """Checks, one after the other, until the work is done; and once more after it."""
    reports: list[Report] = []
    while True:
        over = work.done()
        reports.append(await check(world))
        assert reports[-1].findings == ()
        assert plan_repairs(reports[-1]).repairs == ()
        if over:
            await work
            return reports


async def test_beside_a_worker_of_another_process(tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'w.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), url, "10", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"working\n"

        async def finished() -> None:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"done\n"
            assert await process.wait() == 0

        world = create_world(url, auto_migrate=False)
        reports = await until_done(world, asyncio.create_task(finished()))
        await world.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert len(reports) > 1
    assert reports[-1].seen["runs"] == 10
    assert reports[-1].seen["events"] > 10 * 25
    assert reports[-1].busy == ()


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_beside_writers_of_this_process(tmp_path: Path, kind: str) -> None:
    """Runs that change as fast as they can, while they are looked at."""
    url = f"file:{tmp_path / 'w.db'}" if kind == "file" else f"memory://{tmp_path.name}"
    world = create_world(url)

    async def handler(message: Any, *, attempt: int, queue_name: str, message_id: str) -> None:
        await one_life(world, message["runId"])

    world.create_queue_handler(PREFIX, handler)
    async with world:

        async def work() -> None:
            names = [f"wrun_{number}" for number in range(12)]
            for name in names:
                creation = {"deploymentId": "d", "workflowName": "greet", "input": b""}
                await world.events.create(name, {"eventType": "run_created", "eventData": creation})
                await world.queue(QUEUE, {"runId": name})
            for name in names:
                await world.runs.wait(name, timeout=200)

        reports = await until_done(world, asyncio.create_task(work()))
        assert reports[-1].seen["runs"] == 12
        assert reports[-1].busy == ()
        assert await apply(world, plan_repairs(reports[-1])) == []


async def one_life(world: World, run: str) -> None:
    async def send(event_type: str, key: str | None = None, **data: object) -> None:
        event: Mapping[str, object] = {
            "eventType": event_type,
            "correlationId": key,
            "eventData": data or None,
        }
        await world.events.create(run, event)

    await send("run_started")
    for number in range(15):
        await send("step_created", f"step_{number}", stepName="n", input=b"x")
        await send("hook_created", f"hook_{number}", token=f"{run} {number}")
        await send("step_started", f"step_{number}")
        await send("hook_received", f"hook_{number}", payload=b"x")
        await send("step_completed", f"step_{number}", result=b"y")
        await send("wait_created", f"wait_{number}", resumeAt="2030-01-01T00:00:00Z")
        await send("hook_disposed", f"hook_{number}")
        await send("wait_completed", f"wait_{number}")
        await world.streams.write(run, "out", b"chunk")
    await send("hook_created", "last", token=f"{run} last")
    await send("wait_created", "last", resumeAt="2030-01-01T00:00:00Z")
    await send("run_completed", output=b"")
