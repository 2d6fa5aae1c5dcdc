"""What a batch that began on an event loop's thread leaves to another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import pytest

from workflow_world.errors import WorldClosedError
from workflow_world.sql.compiled import Session
from workflow_world.sql.lane import Job, Locks, Transact
from workflow_world.sql.near_lane import NearLane

pytestmark = pytest.mark.anyio

AtOnce: TypeAlias = Callable[[Sequence[Job[Any]]], bool | Transact]


def run(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.run(cast("Session", None))


def whose(session: Session) -> str:
    return threading.current_thread().name


class Near:
    """A lane whose first batches meet ``answers``; what comes later is done at once."""

    def __init__(self) -> None:
        self.answers: list[AtOnce] = []
        self.lane = NearLane(
            "near", run, at_once=self._at_once, max_batch=9, order=lambda job: job.locks.key
        )

    def _at_once(self, jobs: Sequence[Job[Any]]) -> bool | Transact:
        if self.answers:
            return self.answers.pop(0)(jobs)
        run(jobs)
        return True


@pytest.fixture
def near() -> Iterator[Near]:
    near = Near()
    yield near
    near.lane.close()


async def test_it_is_ended_by_a_thread_in_the_order_of_the_batch(near: Near) -> None:
    seen = list[list[str]]()

    def rest(jobs: Sequence[Job[Any]]) -> None:
        seen.append([job.locks.key for job in jobs])
        run(jobs)

    near.answers.append(lambda jobs: rest)
    calls = (near.lane.submit(whose, locks=Locks(key=key)) for key in "bac")
    assert await asyncio.gather(*calls) == ["near-rest"] * 3
    assert seen == [["a", "b", "c"]]
    await asyncio.to_thread(near.lane._working.acquire)
    near.lane._working.release()
    assert await near.lane.submit(whose) == threading.current_thread().name


async def test_what_comes_before_its_end_is_the_threads(near: Near) -> None:
    gate = threading.Event()

    def rest(jobs: Sequence[Job[Any]]) -> None:
        gate.wait(30)
        run(jobs)

    near.answers.append(lambda jobs: rest)
    first = asyncio.create_task(near.lane.submit(whose))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await near.lane.submit(whose) == "near-0"
    assert not first.done()
    gate.set()
    assert await first == "near-rest"


async def test_its_failure_is_everybodys_answer(near: Near) -> None:
    def rest(jobs: Sequence[Job[Any]]) -> None:
        raise RuntimeError("boom")

    near.answers.append(lambda jobs: rest)
    calls = (near.lane.submit(whose) for _ in range(3))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results] == ["boom"] * 3


async def test_without_another_thread_the_loop_ends_it(
    near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    near.answers.append(lambda jobs: run)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await near.lane.submit(whose) == threading.current_thread().name
    assert await near.lane.submit(whose) == threading.current_thread().name


async def test_what_cannot_be_done_at_once_while_the_lane_closes_is_done(near: Near) -> None:
    """It was submitted before."""
    closer = threading.Thread(target=near.lane.close)

    def closing(jobs: Sequence[Job[Any]]) -> bool:
        closer.start()
        while not near.lane._closed:
            pass
        return False

    near.answers.append(closing)
    assert await near.lane.submit(whose) == "near-rest"
    await asyncio.to_thread(closer.join)
    with pytest.raises(WorldClosedError):
        await near.lane.submit(whose)
