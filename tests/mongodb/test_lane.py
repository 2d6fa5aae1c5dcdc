"""The lane without a server: every caller gets its own answer, and the thread lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from workflow_world.mongodb.client import Unreached
from workflow_world.mongodb.lane import Job, Lane
from workflow_world.mongodb.transaction import Transaction

pytestmark = pytest.mark.anyio


class Held:
    """Batches, the first of which waits until it may begin."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_begin = threading.Event()
        self.batches: list[int] = []
        self._error = error

    def __call__(self, jobs: Sequence[Job[Any]]) -> None:
        self.may_begin.wait()
        self.batches.append(len(jobs))
        if self._error is not None and len(self.batches) > 1:
            raise self._error
        transaction: Any = Marked()
        for job in jobs:
            job.run(transaction)


class Marked:
    def mark(self) -> tuple[int, int]:
        return 0, 0

    def back_to(self, mark: tuple[int, int]) -> None:
        pass


def answer(_: Transaction) -> str:
    return "fine"


def fail(_: Transaction) -> str:
    raise ValueError("mine")


async def test_an_outage_is_waited_for_once() -> None:
    """Not by each of those that waited together, one after the other."""
    transact = Held(Unreached("gone"))
    lane = Lane(transact)
    first = asyncio.create_task(lane.submit(answer))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(lane.submit(answer)) for _ in range(20)]
    await asyncio.sleep(0.05)
    transact.may_begin.set()
    assert await first == "fine"
    found = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(one, Unreached) for one in found)
    assert transact.batches == [1, 20]
    lane.close()


async def test_what_is_wrong_with_one_is_that_one_s() -> None:
    transact = Held()
    lane = Lane(transact)
    first = asyncio.create_task(lane.submit(answer))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(lane.submit(one)) for one in (answer, fail, answer)]
    await asyncio.sleep(0.05)
    transact.may_begin.set()
    assert await first == "fine"
    found = await asyncio.gather(*others, return_exceptions=True)
    assert [found[0], found[2]] == ["fine", "fine"]
    assert isinstance(found[1], ValueError)
    lane.close()


async def test_a_callback_that_fails_does_not_end_the_lane() -> None:
    transact = Held()
    transact.may_begin.set()
    lane = Lane(transact)

    def tell(_: str) -> None:
        raise RuntimeError("callback")

    with pytest.raises(RuntimeError, match="callback"):
        async with asyncio.timeout(5):
            await lane.submit(answer, then=tell)
    async with asyncio.timeout(5):
        assert await lane.submit(answer) == "fine"
    lane.close()
