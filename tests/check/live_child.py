"""A process that works: ``live_child.py URL COUNT`` plays so many runs to their end."""

from __future__ import annotations

import asyncio
import sys

import workflow_world

world = workflow_world.install(sys.argv[1])

from live_flow import Word, everything  # noqa: E402  # the World comes first
from vercel.workflow import HookNotFoundError, start  # noqa: E402


async def play(number: int) -> None:
    token = f"token {number}"
    run = await start(everything, token)
    while True:
        try:
            await Word(text="hi").resume(token)
            break
        except HookNotFoundError:
            assert (await world.runs.get(run.run_id)).status in ("pending", "running")
            await asyncio.sleep(0.005)
    await world.runs.wait(run.run_id, timeout=90)
    assert (await world.runs.get(run.run_id)).status == "completed"


async def main() -> None:
    async with world:
        print("working", flush=True)  # noqa: T201
        await asyncio.gather(*map(play, range(int(sys.argv[2]))))
    print("done", flush=True)  # noqa: T201


asyncio.run(main())
