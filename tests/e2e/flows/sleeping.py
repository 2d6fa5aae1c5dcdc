"""Sleeps: alone, side by side, beside a step."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime

from vercel.workflow import Workflows, sleep, start

from workflow_world import World

from .common import events_of, result_of

workflows = Workflows()


@workflows.step
async def shout(word: str) -> str:
    return word.upper()


@workflows.workflow
async def nap() -> list[str]:
    words = [await shout("before")]
    _, _, meanwhile = await asyncio.gather(sleep("1s"), sleep(1.5), shout("meanwhile"))
    await sleep(0)
    return [*words, meanwhile, await shout("after")]


@workflows.workflow
async def nap_until(second: int) -> str:
    # In the sandbox this is a class of the SDK's own, derived from the real one.
    await sleep(datetime.fromtimestamp(second, UTC))
    return await shout("awake")


async def scenario(world: World) -> None:
    run = await start(nap)
    assert await result_of(world, run) == ["BEFORE", "MEANWHILE", "AFTER"]
    due = {
        event.correlation_id: event.event_data["resumeAt"]
        for event in await events_of(world, run, "wait_created")
    }
    woken = {e.correlation_id: e.created_at for e in await events_of(world, run, "wait_completed")}
    assert len(due) == 3
    assert due.keys() == woken.keys()
    assert all(woken[key] >= due[key] for key in due), "no sleep ended early"
    assert not (await world.waits.list(run.run_id)).data

    second = math.ceil(time.time()) + 1
    run = await start(nap_until, second)
    assert await result_of(world, run) == "AWAKE"
    (created,) = await events_of(world, run, "wait_created")
    assert created.event_data["resumeAt"] == datetime.fromtimestamp(second, UTC)
    assert time.time() >= second
