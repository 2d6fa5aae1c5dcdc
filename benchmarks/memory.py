"""Whether memory grows with the number of runs that a process has served."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterable
from pathlib import Path

from .plan import Sizes
from .stores import Store, opened
from .world_level import run_id, step

_TIMEOUT_S = 600.0


async def run(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Resident memory at the end, in percent of that after a tenth of the runs.

    Each run is created, started, does one step, gets one message delivered and is completed.
    """
    tenth = max(1, sizes.memory_runs // 10)
    async with opened(contender, directory) as store:
        served = _Served()
        await store.serve(served.add)
        early = await _after(range(tenth), store, served, sizes.callers)
        late = await _after(range(tenth, sizes.memory_runs), store, served, sizes.callers)
    return {"memory": 100 * late / early}


class _Served:
    """Counts deliveries, and can be waited for."""

    def __init__(self) -> None:
        self._count, self._goal, self._reached = 0, 0, asyncio.Event()

    def add(self) -> None:
        self._count += 1
        if self._count >= self._goal:
            self._reached.set()

    async def reach(self, goal: int) -> None:
        self._goal, self._reached = goal, asyncio.Event()
        if self._count < goal:
            await asyncio.wait_for(self._reached.wait(), _TIMEOUT_S)


async def _after(numbers: range, store: Store, served: _Served, callers: int) -> int:
    left = iter(numbers)
    await asyncio.gather(*[_call(store, left) for _ in range(callers)])
    await served.reach(numbers.stop)
    gc.collect()  # a cycle that is not collected yet is no growth
    return _resident()


async def _call(store: Store, numbers: Iterable[int]) -> None:
    for number in numbers:
        await store.start_run(run_id(number))
        await step(store, run_id(number), f"step_{number}")
        await store.enqueue(number)
        await store.complete_run(run_id(number))


def _resident() -> int:
    """Bytes; from Linux's /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
