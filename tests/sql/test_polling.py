"""Whoever reads again and again without a pause holds up nobody on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from workflow_world import World
from workflow_world.errors import HookNotFoundError

from .conftest import MakeWorld
from .helpers import create_run

pytestmark = pytest.mark.anyio

READS = 100


async def run(world: World) -> None:
    await world.runs.get("wrun_1")


async def log(world: World) -> None:
    await world.events.list("wrun_1")


async def no_hook(world: World) -> None:
    with pytest.raises(HookNotFoundError):
        await world.hooks.get_by_token("nobody's")


async def known_start(world: World) -> None:
    await world.events.create("wrun_1", {"eventType": "run_started"})


@pytest.mark.parametrize("read", [run, log, no_hook, known_start])
async def test_others_run_meanwhile(
    make_world: MakeWorld, read: Callable[[World], Awaitable[None]]
) -> None:
    world, turns = make_world(), 0
    await create_run(world, "wrun_1")
    await known_start(world)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(READS):
        await read(world)
    task.cancel()
    assert turns >= READS
