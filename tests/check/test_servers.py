"""The same on servers: what was damaged there is found, and mended."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Final

import pytest
from robustness.helpers import sql_on
from servers.engines import Running
from sqlalchemy import text

from workflow_world import create_world
from workflow_world.check import apply, check, plan_repairs
from workflow_world.testing import ManualClock

from .damages import DAMAGES, RUNS
from .stores import AGE, BUSY, ENDED, PENDING, STEPPING, beginning, fill, ms

pytestmark = pytest.mark.anyio

WANTED: Final = [
    ("run-differs", BUSY),
    ("step-differs", BUSY),
    ("step-missing", ENDED),
    ("hook-missing", BUSY),
    ("hook-of-ended-run", ENDED),
    ("run-stuck", STEPPING),
    ("wait-due", BUSY),
    ("lease-expired", PENDING),
]


@pytest.mark.parametrize("engine", ["postgres", "libsql"])
async def test_damages_are_found_and_mended(engine: str, engines: Running) -> None:
    start = beginning()
    with engines(engine).database() as url:
        clock = ManualClock(start)
        filling = create_world(url, clock=clock)
        await fill(filling, clock)
        await filling.close()
        world = create_world(url, clock=ManualClock(start + AGE))
        try:
            assert (await check(world)).clean
            values = {**RUNS, "past": ms(start + timedelta(minutes=30))}
            with sql_on(url) as connection:
                for wanted in WANTED:
                    one = next(
                        one for one in DAMAGES if one.repaired and (one.kind, one.run) == wanted
                    )
                    for sql in one.sql:
                        needed = {name: values[name] for name in values if f":{name}" in sql}
                        connection.execute(text(sql), needed)
            report = await check(world)
            assert Counter(one.kind for one in report.findings) == Counter(
                kind for kind, _ in WANTED
            )
            plan = plan_repairs(report)
            assert plan.left == ()
            outcomes = await apply(world, plan)
            assert all(one.done for one in outcomes), outcomes
            assert (await check(world)).clean
        finally:
            await world.close()
