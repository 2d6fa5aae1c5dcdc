"""What is in no hurry waits for something that is, for a moment at most."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from workflow_world.errors import WorldClosedError
from workflow_world.sql.compiled import Session
from workflow_world.sql.lane import Job, Lane
from workflow_world.sql.unhurried import LEAST_S, MOST_S, Patience, Unhurried

pytestmark = pytest.mark.anyio

FOR_EVER_S = 3600.0


class Waiting:
    """One lane. ``batches`` are what ran together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.patience = Patience()
        self.lane = Lane(
            "lane", self._transact, threads=1, max_batch=9, unhurried=Unhurried(self.patience)
        )

    def _transact(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            job.run(cast("Session", None))
        self.batches.append([job.result for job in jobs])

    def look_takes(self, seconds: float) -> None:
        look = self.patience.timed(lambda jobs: time.sleep(seconds))
        look([])

    def close(self) -> None:
        self.lane.close()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.close()


@pytest.fixture
def patient(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    monkeypatch.setattr("workflow_world.sql.unhurried.LEAST_S", FOR_EVER_S)
    monkeypatch.setattr("workflow_world.sql.unhurried.MOST_S", FOR_EVER_S)
    return waiting


async def test_it_shares_the_next_transaction(patient: Waiting) -> None:
    begun, gate = threading.Event(), threading.Event()

    def hold(session: object) -> str:
        begun.set()
        gate.wait()
        return "held"

    calls = [patient.lane.submit(hold)]
    calls += [patient.lane.submit(lambda _, name=name: name, unhurried=True) for name in "ab"]
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.to_thread(begun.wait)
    tasks.append(asyncio.create_task(patient.lane.submit(lambda _: "c")))
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == ["held", "a", "b", "c"]
    assert patient.batches == [["held"], ["a", "b", "c"]]


async def test_it_does_not_wait_for_ever(waiting: Waiting) -> None:
    assert await waiting.lane.submit(lambda _: "a", unhurried=True) == "a"
    assert waiting.batches == [["a"]]


async def test_closing_runs_it(patient: Waiting) -> None:
    waiting = asyncio.create_task(patient.lane.submit(lambda _: "a", unhurried=True))
    await asyncio.sleep(0)
    await asyncio.to_thread(patient.close)
    assert await waiting == "a"
    with pytest.raises(WorldClosedError):
        await patient.lane.submit(lambda _: "b", unhurried=True)


async def test_a_loop_that_ended_leaves_it_to_the_next(waiting: Waiting) -> None:
    async def leave() -> None:
        task = asyncio.create_task(waiting.lane.submit(lambda _: "a", unhurried=True))
        await asyncio.sleep(0)
        task.cancel()

    await asyncio.to_thread(asyncio.run, leave())
    assert await waiting.lane.submit(lambda _: "b", unhurried=True) == "b"
    assert sorted(name for batch in waiting.batches for name in batch) == ["a", "b"]


async def test_patience_is_that_of_a_look_and_a_half(waiting: Waiting) -> None:
    assert waiting.patience.seconds == LEAST_S
    waiting.look_takes(0.01)
    assert waiting.patience.seconds > LEAST_S
    for _ in range(3):
        waiting.look_takes(0.3)
    assert waiting.patience.seconds == MOST_S
