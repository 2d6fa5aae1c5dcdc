"""A lane with several threads: which job is whose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from workflow_world.sql.compiled import Session
from workflow_world.sql.lane import Job, Lane, Locks

pytestmark = pytest.mark.anyio


def run(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.run(cast("Session", None))


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("lane", run, threads=2, max_batch=9, spread=lambda job: int(job.locks.key))
    yield lane
    lane.close()


def whose(session: Session) -> str:
    return threading.current_thread().name


async def test_equal_numbers_are_one_threads(lane: Lane) -> None:
    calls = (lane.submit(whose, locks=Locks(key=str(number))) for number in range(20))
    assert await asyncio.gather(*calls) == ["lane-0", "lane-1"] * 10


async def test_what_holds_up_one_thread_leaves_the_other_alone(lane: Lane) -> None:
    gate = threading.Event()
    held = asyncio.create_task(lane.submit(lambda _: gate.wait(), locks=Locks(key="0")))
    behind = asyncio.create_task(lane.submit(whose, locks=Locks(key="2")))
    assert await lane.submit(whose, locks=Locks(key="1")) == "lane-1"
    assert not held.done()
    assert not behind.done()
    gate.set()
    assert [await held, await behind] == [True, "lane-0"]
