"""Writes wait for the next statement whose answer somebody needs: of an operation that fails
meanwhile none is sent with its neighbour's."""

from __future__ import annotations

import asyncio

import pytest

from workflow_world import BackendError, World, faults
from workflow_world.check import check

from .helpers import create_run, event, log_of

pytestmark = pytest.mark.anyio

NEIGHBOURS = 30


async def test_an_operation_that_fails_between_its_writes_leaves_none_of_them(
    world: World,
) -> None:
    await create_run(world, "wrun_1")
    left = 4
    """All of them fail together once on the loop's thread and once on another; what fails then is
    one by itself."""

    def fail(point: str) -> None:
        nonlocal left
        if point == "before insert step" and left:
            left -= 1
            raise BackendError("cut off")

    names = [f"step_{number}" for number in range(NEIGHBOURS)]
    with faults.armed(fail):
        done = await asyncio.gather(
            *(
                world.events.create("wrun_1", event("step_created", name, stepName="s", input=b""))
                for name in names
            ),
            return_exceptions=True,
        )
    written = [
        name for name, one in zip(names, done, strict=True) if not isinstance(one, Exception)
    ]
    assert NEIGHBOURS - 3 <= len(written) < NEIGHBOURS
    assert await log_of(world, "wrun_1") == [
        ("run_created", None),
        *(("step_created", name) for name in written),
    ]
    steps = (await world.steps.list("wrun_1", limit=100)).data
    assert sorted(one.step_id for one in steps) == sorted(written)
    assert {one.kind for one in (await check(world)).findings} <= {"run-stuck"}
