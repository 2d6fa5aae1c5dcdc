"""Writers of one stream, one after the other: ``speaker.py URL SEED CHUNKS DEATHS``.

Each goes on where the stream ends. All but the last die between two statements, which the seed
chose; so nothing of a dead one is written when the next begins. Says ``ready``, and at the end how
many died.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

from workflow_world import create_world, faults

RUN, NAME = "wrun_stream", "out"


def chunks_of(seed: int, count: int) -> list[bytes]:
    """From 1 byte to a megabyte; most of them are small."""
    chance = random.Random(seed)  # noqa: S311
    exponents = [chance.uniform(0, 6 if chance.random() < 0.1 else 3) for _ in range(count)]
    return [chance.randbytes(max(1, int(10**exponent))) for exponent in exponents]


async def look(url: str) -> None:
    """Everything is imported then, which the children need not do again."""
    world = create_world(url)
    await world.streams.get_info(RUN, NAME)
    await world.close()


async def speak(url: str, chunks: list[bytes]) -> None:
    world = create_world(url)
    try:
        there = (await world.streams.get_info(RUN, NAME)).tail_index + 1
        for chunk in chunks[there:]:
            await world.streams.write(RUN, NAME, chunk)
        await world.streams.close(RUN, NAME)
    finally:
        await world.close()


def one(url: str, chunks: list[bytes], points: int | None) -> bool:
    """A writer in a process of its own. Returns: whether it died at its point."""
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL), code
        return code != 0
    left = points

    def count(name: str) -> None:
        nonlocal left
        if left is not None and name.endswith(("insert chunk", "stream_chunks")):
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        with faults.armed(count):
            asyncio.run(speak(url, chunks))
        code = 0
    finally:
        os._exit(code)


def main(url: str, seed: int, count: int, deaths: int) -> None:
    asyncio.run(look(url))
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    chance, chunks, died = random.Random(seed + 1), chunks_of(seed, count), 0  # noqa: S311
    for _ in range(deaths):
        # Two points to a chunk: together they do not come to the end.
        died += one(url, chunks, chance.randint(1, 2 * count // (deaths + 1)))
    assert not one(url, chunks, None)
    print(died, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
