"""A stream whose writers die, under readers that join, leave and come back by index."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from contextlib import aclosing
from pathlib import Path

import pytest
from servers.children import ChildProcess
from servers.engines import ALL, Running
from speaker import NAME, RUN, chunks_of

from workflow_world import World, create_world

SPEAKER = Path(__file__).with_name("speaker.py")
LONG = bool(os.environ.get("CHAOS_LONG"))
READERS, CHUNKS, DEATHS = (50, 2_000, 40) if LONG else (8, 60, 4)


def digest(chunk: bytes) -> bytes:
    return hashlib.sha256(chunk).digest()


async def read(world: World, chance: random.Random) -> list[bytes]:
    """All that one reader hears, who leaves at any time and goes on where it was."""
    heard: list[bytes] = []
    while True:
        await asyncio.sleep(chance.uniform(0, 0.2))
        stay = chance.randint(1, CHUNKS)
        async with aclosing(world.streams.get(RUN, NAME, start_index=len(heard))) as chunks:
            async for chunk in chunks:
                heard.append(digest(chunk))
                stay -= 1
                if not stay:
                    break
            else:
                return heard


@pytest.mark.anyio
@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize("name", ALL)
async def test_every_reader_gets_every_chunk_once_and_in_order(
    engines: Running, name: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    # A libSQL server takes five seconds to notice that a writer died.
    deaths = DEATHS if name != "libsql" else max(1, DEATHS // 10)
    with engines(name).database() as url:
        speaker = ChildProcess(SPEAKER, url, str(seed), str(CHUNKS), str(deaths))
        world, other = create_world(url), create_world(url, poll_interval_ms=50)
        try:
            assert await asyncio.to_thread(speaker.line) == "ready"
            worlds = [chance.choice((world, other)) for _ in range(READERS)]
            reading = [asyncio.create_task(read(one, chance)) for one in worlds]
            speaker.go()
            heard = await asyncio.gather(*reading)
            (died, _) = await asyncio.to_thread(lambda: speaker.finish(timeout=300))
            assert int(died) == deaths
            assert (await world.streams.get_info(RUN, NAME)).tail_index == CHUNKS - 1
        finally:
            await world.close()
            await other.close()
            speaker.kill()
    wanted = [*map(digest, chunks_of(seed, CHUNKS))]
    assert [one == wanted for one in heard] == [True] * READERS
