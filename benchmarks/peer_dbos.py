"""DBOS on SQLite or Postgres: the same workflows. It looks its steps up, no replay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from dbos import DBOS, DBOSConfig

from .plan import BY_NAME, Flow, Sizes
from .sdk_level import settle
from .stores import database_url


@DBOS.step()
async def double(number: int) -> int:
    return 2 * number


@DBOS.workflow()
async def in_sequence(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    return total


@DBOS.workflow()
async def fanned_out(count: int) -> int:
    return sum(await asyncio.gather(*[double(number) for number in range(count)]))


async def run(
    workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, dict[str, float]]:
    """Seconds by workload, as ``sdk_level.run``."""
    url = database_url(directory)
    if url.startswith("file:"):
        url = f"sqlite:///{directory / 'dbos.db'}"
    config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)
    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS.launch()
    try:
        if sizes.warm_up_steps:
            await _timed(Flow(sizes.warm_up_steps))
        figures = dict[str, dict[str, float]]()
        for workload in workloads:
            flow = BY_NAME[workload].flow
            assert flow is not None
            figures[workload] = {workload: await _timed(flow.capped(sizes.most_steps))}
        return figures
    finally:
        DBOS.destroy()


async def _timed(flow: Flow) -> float:
    workflow, steps = fanned_out if flow.fan_out else in_sequence, flow.steps

    async def one() -> int:
        handle = await DBOS.start_workflow_async(workflow, steps)
        return await handle.get_result(polling_interval_sec=0.001)

    settle()
    began = time.perf_counter()
    results = await asyncio.gather(*[one() for _ in range(flow.runs)])
    seconds = time.perf_counter() - began
    assert set(results) == {steps * (steps - 1)}, results
    return seconds
