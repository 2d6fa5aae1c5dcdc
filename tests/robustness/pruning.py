"""Pruners that die in the middle of it: ``pruning.py URL SEED``, until it is told to go on.

Each is forked, prunes whatever is finished, and kills itself at a statement that the seed chose.
Another takes its place. Says ``ready``, then how many died.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
from datetime import timedelta

from workflow_world import create_world, faults
from workflow_world.backend import Retention

AT_ONCE = Retention(completed=timedelta(0), failed=timedelta(0))
OURS = ("keep last claim", "delete message")


async def look(url: str) -> None:
    """Everything is imported then, which the children need not do again."""
    world = create_world(url)
    await world.messages.stats()
    await world.close()


async def prune(url: str, limit: int) -> None:
    """For ever."""
    world = create_world(url)
    await world.backend.open()
    while True:
        if not await world.backend.messages.prune(AT_ONCE, limit=limit):
            await asyncio.sleep(0.002)


def dying(url: str, chance: random.Random) -> int:
    """Fork one. Returns: its process id."""
    left, limit = chance.randint(1, 30), chance.randint(1, 10)
    pid = os.fork()
    if pid:
        return pid

    def count(name: str) -> None:
        nonlocal left
        left -= name.partition(" ")[2] in OURS
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with faults.armed(count):
            asyncio.run(prune(url, limit))
    finally:
        os._exit(1)


def main(url: str, seed: int) -> None:
    chance, died = random.Random(seed), 0  # noqa: S311
    asyncio.run(look(url))
    print("ready", flush=True)  # noqa: T201
    while True:
        pid = dying(url, chance)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if select.select([sys.stdin], [], [], 0.002)[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                print(died)  # noqa: T201
                return
        died += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
