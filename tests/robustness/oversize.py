"""Writes large results, one step after the other, until it is killed: ``oversize.py URL SIZE``."""

from __future__ import annotations

import asyncio
import random
import sys
from functools import lru_cache

from workflow_world import NewEvent, World, create_world

RUN = "wrun_large"


@lru_cache(maxsize=4)
def content(size: int, number: int) -> bytes:
    """No part of it is like another, nor like that of another number."""
    return random.Random(number).randbytes(size)  # noqa: S311


async def step(world: World, number: int, size: int) -> None:
    """A step that is created and completed."""
    name = f"step_{number:03}"
    created = {"stepName": "s", "input": b""}
    for kind, data in (
        ("step_created", created),
        ("step_completed", {"result": content(size, number)}),
    ):
        new = NewEvent(event_type=kind, correlation_id=name, event_data=data)
        await world.events.create(RUN, new)


async def main(url: str, first: int, size: int) -> None:
    world = create_world(url)
    await world.runs.get(RUN)
    print("ready", flush=True)  # noqa: T201
    while True:
        await step(world, first, size)
        first += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
