"""Whole runs of the real SDK. Its World is global to the process, so it is set once and first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .plan import Sizes
from .stores import local_world

Figures = dict[str, float]
_TIMEOUT_S = 300.0


class Ends:
    """Notices the end of runs where the World reports it: no contender pays for a poll."""

    def __init__(self, world: Any) -> None:
        self._create, self._left, self._all = world.events_create, 0, asyncio.Event()
        world.events_create = self._watched

    async def _watched(self, run_id: str | None, data: Any) -> Any:
        result = await self._create(run_id, data)
        if data.event_type in ("run_completed", "run_failed"):
            self._left -= 1
            if self._left == 0:
                self._all.set()
        return result

    def expect(self, count: int) -> None:
        self._left, self._all = count, asyncio.Event()

    async def wait(self) -> None:
        await asyncio.wait_for(self._all.wait(), _TIMEOUT_S)


@asynccontextmanager
async def _serving(contender: str, directory: Path) -> AsyncIterator[Any]:
    """The SDK's World of this process, delivering; its handlers are built inside."""
    from vercel.workflow._internal import world as w

    if contender == "ours":
        import workflow_world

        world = workflow_world.install(f"file:{directory / 'workflow.db'}")
        from . import flows as flows

        async with world:
            yield w.get_world()
        return
    if contender == "local":
        w.set_world(await local_world(directory))
    else:
        from .floor import FloorWorld

        w.set_world(FloorWorld())
    from . import flows as flows

    yield w.get_world()
    await w.get_world().aclose()


async def run(
    contender: str, workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, Figures]:
    """Seconds from ``start`` to the last run's recorded end, by workload."""
    async with _serving(contender, directory) as world:
        ends = Ends(world)
        if sizes.warm_up_steps:
            await _timed(ends, "sequential", sizes.warm_up_steps, 1)
        figures = dict[str, Figures]()
        for workload in workloads:
            kind, _, number = workload.rpartition("_")
            steps, runs = min(int(number), sizes.most_steps), 1
            if kind == "concurrent":
                steps, runs = min(3, sizes.most_steps), steps
            figures[workload] = {workload: await _timed(ends, kind, steps, runs)}
        return figures


async def _timed(ends: Ends, kind: str, steps: int, runs: int) -> float:
    from vercel.workflow import start

    from . import flows

    workflow = flows.fanned_out if kind == "fan_out" else flows.in_sequence
    ends.expect(runs)
    began = time.perf_counter()
    started = await asyncio.gather(*[start(workflow, steps) for _ in range(runs)])
    await ends.wait()
    seconds = time.perf_counter() - began
    for one in started:
        result = await one.return_value()
        assert result == steps * (steps - 1), f"{workflow.workflow_id} gave {result}"
    return seconds
