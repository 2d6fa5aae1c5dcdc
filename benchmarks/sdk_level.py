"""Whole runs of the real SDK. Its World is global to the process, so it is set once and first."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from .beside import Partner, beside
from .plan import BY_NAME, FILLED, Flow, Sizes
from .stores import FILLED_OPTIONS, database_options, database_url, local_world

Figures = dict[str, float]
Around = Callable[[Any, str], AbstractContextManager[None]]
"""What is done around the measuring of a workload, given the World and the workload."""
_TIMEOUT_S = 300.0
_WARM_UPS = 10
"""Runs that warm up two processes: enough that each gets some."""


def watch_ends(world: Any, ended: Callable[[], None]) -> None:
    """Have ``ended`` called for each run whose end this process records: nobody pays for a poll."""
    create = world.events_create

    async def watched(run_id: str | None, data: Any) -> Any:
        result = await create(run_id, data)
        if data.event_type in ("run_completed", "run_failed"):
            ended()
        return result

    world.events_create = watched


class Ends:
    """Waits for the end of a number of runs."""

    def __init__(self) -> None:
        self._left, self._all = 0, asyncio.Event()
        self._lost: EOFError | None = None

    def ended(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._all.set()

    def expect(self, count: int) -> None:
        self._left, self._all = count, asyncio.Event()

    async def wait(self) -> None:
        await asyncio.wait_for(self._all.wait(), _TIMEOUT_S)
        if self._lost is not None:
            raise self._lost

    async def follow(self, second: Partner) -> None:
        """Count what the second worker tells; ``wait`` raises when that one is lost."""
        try:
            while await second.hear(timeout=None) == "ended":
                self.ended()
        except EOFError as error:
            self._lost = error
            self._all.set()


def settle() -> None:
    """As ``workflow-world worker`` does before it works: collect garbage, and look through what is
    left no more. A full collection takes as long as ten steps (measured): in a short flow it must
    not depend on what was allocated before whether there is one."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def serving(
    contender: str, directory: Path, more: Mapping[str, Any] | None = None
) -> AsyncIterator[Any]:
    """The SDK's World of this process, delivering; its handlers are built inside.

    ``more`` are options of ours.
    """
    from vercel.workflow._internal import world as w

    if contender.startswith("ours"):
        import workflow_world

        options: dict[str, Any] = dict(FILLED_OPTIONS) if contender in FILLED else {}
        options |= {**database_options(directory), **(more or {})}
        world = workflow_world.install(database_url(directory), **options)
        from . import flows as flows
        from . import flows_shared as flows_shared

        async with world:
            yield w.get_world()
        return
    if contender == "local":
        w.set_world(await local_world(directory))
    elif contender == "floor-durable":
        from .floor_durable import on_a_file

        w.set_world(on_a_file(directory))
    elif contender == "floor-durable-pg":
        from .floor_durable import on_postgres

        w.set_world(on_postgres(database_url(directory)))
    elif contender == "floor-statements":
        from .limit import LimitWorld

        w.set_world(LimitWorld())
    else:
        from .floor import FloorWorld

        w.set_world(FloorWorld())
    from . import flows as flows
    from . import flows_shared as flows_shared

    yield w.get_world()
    await w.get_world().aclose()


async def run(
    contender: str,
    workloads: Sequence[str],
    sizes: Sizes,
    directory: Path,
    *,
    around: Around = lambda world, workload: nullcontext(),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Figures]:
    """Seconds from ``start`` to the last run's recorded end, by workload."""
    ends = Ends()
    async with serving(contender, directory, options) as world:
        watch_ends(world, ends.ended)
        if sizes.warm_up_steps:
            await _timed(ends, Flow(sizes.warm_up_steps))
        figures = dict[str, Figures]()
        for workload in workloads:
            flow = BY_NAME[workload].flow
            assert flow is not None
            flow = flow.capped(sizes.most_steps)
            # The floor is in the memory of one process, so it stays the figure of one.
            if flow.workers == 1 or contender == "floor":
                with around(world, workload):
                    seconds = await _timed(ends, flow)
            else:
                seconds = await _with_second(ends, flow, contender, sizes, directory)
            figures[workload] = {workload: seconds}
        return figures


async def _with_second(
    ends: Ends, flow: Flow, contender: str, sizes: Sizes, directory: Path
) -> float:
    async with beside("second_worker", contender=contender, directory=str(directory)) as second:
        assert await second.hear() == "ready"
        following = asyncio.create_task(ends.follow(second))
        try:
            if sizes.warm_up_steps:
                await _timed(ends, Flow(sizes.warm_up_steps, runs=_WARM_UPS))
            return await _timed(ends, flow)
        finally:
            following.cancel()


async def _timed(ends: Ends, flow: Flow) -> float:
    from vercel.workflow import start

    from . import flows, flows_shared

    if flow.shares:
        workflow = flows_shared.in_sequence
    else:
        workflow = flows.fanned_out if flow.fan_out else flows.in_sequence
    settle()
    ends.expect(flow.runs)
    began = time.perf_counter()
    started = await asyncio.gather(*[start(workflow, flow.steps) for _ in range(flow.runs)])
    await ends.wait()
    seconds = time.perf_counter() - began
    for one in started:
        result = await one.return_value()
        expected = flow.steps * (flow.steps - 1)
        assert result == expected, f"{workflow.workflow_id} gave {result}"
    return seconds
