"""Commands that tests run in processes of their own: ``python child.py COMMAND URL …``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

from workflow_world import World, create_world, faults

QUEUE: Final = "__wkf_workflow_greet"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # how the test hears of it


def event(kind: str, correlation_id: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": correlation_id, "eventData": data or None}


async def open_first(world: World) -> None:
    """The first use of a database that may be empty."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    await world.events.create(
        None, event("run_created", deploymentId="d", workflowName="w", input=1)
    )
    say(str(len((await world.runs.list()).data)))


async def die(world: World, work: str, point: str, nth: str) -> None:
    """SIGKILL at the n-th time of the fault point, while it works."""
    await world.backend.open()
    left = int(nth)

    def kill(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with faults.armed(kill):
        await WORKS[work](world)
    say("survived")


async def end_run(world: World) -> None:
    """One entry that changes the run, its log and its hook."""
    await world.events.create("wrun_1", event("run_completed", output=b"out"))


async def large(world: World) -> None:
    """One entry of several parts."""
    await world.streams.write_multi("wrun_1", "out", [bytes([n]) * (3 << 20) for n in range(6)])


WORKS: Final = {"end_run": end_run, "large": large}
COMMANDS: Final = {"open_first": open_first, "die": die}


async def main(command: str, url: str, *arguments: str) -> None:
    async with create_world(url) as world:
        await COMMANDS[command](world, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
