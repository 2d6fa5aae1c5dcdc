"""What the lane remembers of its last writes is exact: a rival's write or a rollback ends it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from workflow_world import World, faults
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.errors import BackendError, EntityConflictError
from workflow_world.settings import resolve
from workflow_world.sql import open_backend

from .helpers import Held, create_run, raw, rows, step_event

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rival(world: World, url: str) -> AsyncIterator[World]:
    """A World with connections of its own, as another process would have."""
    backend = open_backend(url, environ={}, shared=False)
    found = World(backend, resolve({}, {})[0], clock=SYSTEM_CLOCK)
    yield found
    await found.close()


@pytest.fixture
async def started(world: World) -> World:
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", {"eventType": "run_started"})
    await step_event(world, "wrun_1", "step_created")
    await step_event(world, "wrun_1", "step_started")
    return world


def positions(path: Path) -> list[int]:
    return [row[0] for row in rows(path, "SELECT position FROM workflow_events ORDER BY position")]


async def test_a_rivals_step_outcome_is_seen(started: World, rival: World, path: Path) -> None:
    await step_event(rival, "wrun_1", "step_completed")
    with pytest.raises(EntityConflictError):
        await step_event(started, "wrun_1", "step_completed")
    assert positions(path) == [1, 2, 3, 4, 5]


async def test_a_rivals_end_of_the_run_is_seen(started: World, rival: World, path: Path) -> None:
    await rival.events.create("wrun_1", {"eventType": "run_cancelled"})
    with pytest.raises(EntityConflictError):
        await step_event(started, "wrun_1", "step_created", "step_2")
    assert positions(path) == [1, 2, 3, 4, 5]


async def test_two_who_take_turns_number_without_gap_or_double(
    started: World, rival: World, path: Path
) -> None:
    for number in range(10):
        for world, name in ((started, "a"), (rival, "b"), (rival, "c"), (started, "d")):
            await step_event(world, "wrun_1", "step_created", f"step_{name}_{number}")
    assert positions(path) == list(range(1, 45))


async def test_two_who_write_at_once_number_without_gap_or_double(
    started: World, rival: World, path: Path
) -> None:
    await asyncio.gather(
        *(
            step_event(world, "wrun_1", "step_created", f"step_{name}_{number}")
            for number in range(25)
            for world, name in ((started, "a"), (rival, "b"))
        )
    )
    assert positions(path) == list(range(1, 55))


async def test_a_row_that_is_gone_is_not_remembered(started: World, path: Path) -> None:
    with raw(path) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM workflow_runs")
    with pytest.raises(Exception, match="wrun_1"):
        await step_event(started, "wrun_1", "step_completed")
    assert positions(path) == []


async def test_a_failed_commit_is_forgotten(started: World, path: Path) -> None:
    def fail(point: str) -> None:
        if point == "before commit":
            raise sqlite3.OperationalError("disk I/O error")

    with faults.armed(fail), pytest.raises(BackendError):
        await step_event(started, "wrun_1", "step_completed")
    # The step is still running, and the next position is still free.
    await step_event(started, "wrun_1", "step_completed")
    assert positions(path) == [1, 2, 3, 4, 5]


async def test_a_failure_between_two_statements_is_forgotten(started: World, path: Path) -> None:
    def fail(point: str) -> None:
        if point == "after update step":
            raise sqlite3.OperationalError("disk I/O error")

    with faults.armed(fail), pytest.raises(BackendError):
        await step_event(started, "wrun_1", "step_completed")
    await step_event(started, "wrun_1", "step_completed")
    assert positions(path) == [1, 2, 3, 4, 5]


async def test_a_batch_that_is_run_again_starts_from_what_is_stored(
    started: World, path: Path
) -> None:
    """Some fail, in the first run and the second; the others follow each other densely."""
    database = started.backend.database  # type: ignore[attr-defined]

    def fail(point: str) -> None:
        if point == "after insert step":
            count.append(point)
            if len(count) in (3, 7):
                raise sqlite3.OperationalError("disk I/O error")

    count: list[str] = []
    with faults.armed(fail):
        async with Held(database):
            writers = [
                asyncio.create_task(step_event(started, "wrun_1", "step_created", f"step_n{n}"))
                for n in range(8)
            ]
        results = await asyncio.gather(*writers, return_exceptions=True)
    failed = [result for result in results if result is not None]
    assert len(failed) == 1
    assert isinstance(failed[0], BackendError)
    assert positions(path) == list(range(1, 12))
    assert len(rows(path, "SELECT 1 FROM workflow_steps")) == 8
