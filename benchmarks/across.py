"""Latencies between two processes: one writes, the measuring one is the worker, the reader or who
waits."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from contextlib import aclosing
from pathlib import Path

from .beside import Partner, beside
from .plan import Sizes
from .stores import opened
from .world_level import PAUSES_S, run_id

_TIMEOUT_S = 120.0


class _Arrivals:
    """When each write was seen; one is on its way at a time."""

    def __init__(self) -> None:
        self.times = list[float]()
        self._news = asyncio.Event()

    def add(self) -> None:
        self.times.append(time.perf_counter())
        self._news.set()

    async def next(self) -> None:
        await asyncio.wait_for(self._news.wait(), _TIMEOUT_S)
        self._news.clear()


async def pick_up(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """From the call of ``queue`` in one process to the handler of an idle worker in another."""
    arrivals = _Arrivals()
    async with opened(contender, directory) as store:
        await store.serve(arrivals.add)
        async with beside(
            "writer", contender=contender, directory=str(directory), what="message"
        ) as writer:
            median = await _median(writer, arrivals, sizes.pick_ups)
    return {"pick_up_other": 1_000 * median}


async def stream_live(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """From the call that writes a chunk in one process to the reader of another."""
    arrivals, run, name = _Arrivals(), run_id(0), "live"
    async with opened(contender, directory) as store:
        await store.start_run(run)

        async def read() -> None:
            async with aclosing(store.read_stream(run, name)) as source:
                async for _ in source:
                    arrivals.add()

        reader = asyncio.create_task(read())
        async with beside(
            "writer", contender=contender, directory=str(directory), what="chunk", about=(run, name)
        ) as writer:
            median = await _median(writer, arrivals, sizes.live_chunks)
        await store.close_stream(run, name)
        await asyncio.wait_for(reader, _TIMEOUT_S)
    return {"stream_live_other": 1_000 * median}


async def run_end(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """From the call that ends a run in one process to the return of ``runs.wait`` in another."""
    arrivals = _Arrivals()
    async with opened(contender, directory) as store:
        runs = [run_id(number) for number in range(1 + sizes.live_chunks)]
        for run in runs:
            await store.start_run(run)

        async def wait() -> None:
            for run in runs:
                await store.wait(run)
                arrivals.add()

        waiting = asyncio.create_task(wait())
        async with beside(
            "writer", contender=contender, directory=str(directory), what="end", about=runs
        ) as writer:
            median = await _median(writer, arrivals, sizes.live_chunks)
        await asyncio.wait_for(waiting, _TIMEOUT_S)
    return {"run_end_other": 1_000 * median}


async def _median(writer: Partner, arrivals: _Arrivals, count: int) -> float:
    rng = random.Random(1)  # noqa: S311
    await writer.hear()
    # The first opens what opens late, and does not count.
    for _ in range(1 + count):
        await asyncio.sleep(rng.uniform(*PAUSES_S))
        writer.say("go")
        await arrivals.next()
    writer.say("end")
    began: list[float] = json.loads(await writer.hear())
    assert len(began) == len(arrivals.times), f"{len(arrivals.times)} of {len(began)} arrived"
    times = [at - since for since, at in zip(began, arrivals.times, strict=True)]
    return statistics.median(times[1:])
