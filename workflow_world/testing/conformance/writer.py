"""A process that writes runs until it is killed, for B098.

It prints one line, run id and number of events, after each write that was accepted: what was
printed must still be there when the process is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from ...clock import SYSTEM_CLOCK
from ...settings import resolve
from ...world import World
from .fixtures import OpenHandle
from .helpers import (
    CREATION,
    SAMPLES,
    SOON,
    create_hook,
    create_step,
    create_wait,
    receive,
    send,
    send_sample,
    set_attributes,
    start_step,
)

TASKS = 4


def main(open_handle: OpenHandle, name: str) -> None:
    """Write for ever; ``name`` keeps the run ids of several such processes apart."""
    asyncio.run(_write_for_ever(open_handle, name))


async def _write_for_ever(open_handle: OpenHandle, name: str) -> None:
    settings, _ = resolve({}, {})
    world = World(open_handle(SYSTEM_CLOCK), settings, clock=SYSTEM_CLOCK)
    runs = (f"wrun_{name}_{number}" for number in itertools.count())

    async def work() -> None:
        for run_id in runs:
            await _one_run(world, run_id)

    await asyncio.gather(*(work() for _ in range(TASKS)))


async def _one_run(world: World, run_id: str) -> None:
    count = 0

    def accepted(events: int = 1) -> None:
        nonlocal count
        count += events
        sys.stdout.write(f"{run_id} {count}\n")
        sys.stdout.flush()

    await send(world, run_id, "run_started", **CREATION, attributes={"k": "v"})
    accepted(2)
    await create_hook(world, run_id, token=run_id, metadata=b"m")
    accepted()
    for number in range(3):
        step_id = f"step_{number}"
        await create_step(world, run_id, step_id)
        accepted()
        await start_step(world, run_id, step_id)
        accepted()
        if number == 1:
            await send_sample(world, run_id, "step_retrying", step_id)
            accepted()
        await send_sample(
            world, run_id, "step_failed" if number == 2 else "step_completed", step_id
        )
        accepted()
        await receive(world, run_id, payload=number, resume_id=f"resume {number}", digest="d")
        accepted()
    await set_attributes(world, "attr_1", ("k", None), ("l", "w"), run_id=run_id)
    accepted()
    for number in range(2):
        await create_wait(world, run_id, f"wait_{number}", SOON)
        accepted()
    await send_sample(world, run_id, "wait_completed", "wait_0")
    accepted()
    await create_hook(world, run_id, "hook_2", f"{run_id} 2")
    accepted()
    await send(world, run_id, "hook_disposed", "hook_1")
    accepted()
    await send(world, run_id, "run_completed", **SAMPLES["run_completed"])
    accepted()
