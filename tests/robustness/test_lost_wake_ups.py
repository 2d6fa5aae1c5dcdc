"""Every wake-up is lost, of this process and of others: all the work is done by looking again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from servers.engines import APART

from workflow_world.signals import Hub

from .conftest import MakeWorld
from .helpers import LONG, engine_of, until
from .side import Side, go

pytestmark = pytest.mark.anyio

RUNS = 1_000 if LONG else 12


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What nobody hears, by topic; ``*`` stands for all."""
    found = Counter[str]()

    def notify(self: Hub, topic: str) -> None:
        found[topic.partition(":")[0]] += 1

    def notify_all(self: Hub) -> None:
        found["*"] += 1

    monkeypatch.setattr(Hub, "notify", notify)
    monkeypatch.setattr(Hub, "notify_all", notify_all)
    return found


async def test_all_work_is_done_without_a_single_wake_up(
    url: str, make_world: MakeWorld, lost: Counter[str]
) -> None:
    """By a worker whose slots are all taken again and again, for a client with a handle of its
    own that waits for ends and reads streams."""
    client = make_world(url, **APART[engine_of(url)])
    side = Side(make_world(url, concurrency=2, poll_interval_ms=20), "it", client=client)
    numbers = range(RUNS)

    async def read(number: int) -> list[bytes]:
        return [chunk async for chunk in client.streams.get(side.run(number), "out")]

    reading = [asyncio.create_task(read(number)) for number in numbers]
    waiting = [asyncio.create_task(wait(side, number)) for number in numbers]
    await go([side], numbers, forgotten=False)
    assert {*await asyncio.gather(*waiting)} == {"completed"}
    for chunks in await asyncio.gather(*reading):
        assert {*chunks} == {b"it"}
    assert lost["queue"] >= len(numbers)
    assert lost["run"] >= len(numbers)
    assert lost["stream"] >= len(numbers)


async def wait(side: Side, number: int) -> str:
    """By ``runs.wait``, from when there is a run."""

    async def is_there() -> bool:
        return (await side.client.runs.get_many([side.run(number)]))[0] is not None

    await until(is_there)
    return str((await side.client.runs.wait(side.run(number), 3_600)).status)
