"""A clock that steps back, jumps, passes midnight and changes to summer time, all in mid-run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from workflow_world import World
from workflow_world.http import QueueContinuation
from workflow_world.testing.clock import ManualClock

from .conftest import MakeWorld
from .helpers import FLOW, FLOWS, create_run, event, until

pytestmark = pytest.mark.anyio

NAP_S = 90.0


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The time zone that this process lives in."""
    monkeypatch.setitem(os.environ, "TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


@asynccontextmanager
async def going(clock: ManualClock, step_s: float = 5.0) -> AsyncIterator[None]:
    """The clock goes on by itself, much faster than the world's."""

    async def go() -> None:
        while True:
            clock.advance(step_s)
            await asyncio.sleep(0.002)

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Sleeper:
    """A workflow that starts, sleeps through a wait, fails once, and completes."""

    def __init__(self, world: World, clock: ManualClock, zone: ZoneInfo) -> None:
        self._world, self._clock, self._zone = world, clock, zone
        self.held = self.early = 0
        self._failed = False
        world.create_queue_handler(FLOWS, self._replay)

    async def _replay(self, message: object, **about: object) -> QueueContinuation | None:
        assert isinstance(message, dict)
        run_id = message["runId"]
        self.held += 1
        assert self.held == 1, "two deliveries at once"
        try:
            return await self._once(run_id)
        finally:
            self.held -= 1

    async def _once(self, run_id: str) -> QueueContinuation | None:
        log = (await self._world.events.list(run_id)).data
        kinds = {one.event_type: one for one in log}
        if "run_started" not in kinds:
            await self._world.events.create(run_id, event("run_started"))
        if "wait_created" not in kinds:
            # In the local time of a machine that has one.
            due = (self._clock.now() + timedelta(seconds=NAP_S)).astimezone(self._zone)
            await self._world.events.create(run_id, event("wait_created", "wait", resumeAt=due))
            return QueueContinuation(delay_seconds=NAP_S)
        if "wait_completed" not in kinds:
            wait = await self._world.waits.get(run_id, "wait")
            assert wait.resume_at is not None
            left = (wait.resume_at - self._clock.now()).total_seconds()
            if left > 0:
                self.early += 1
                return QueueContinuation(delay_seconds=left)
            await self._world.events.create(run_id, event("wait_completed", "wait"))
        if not self._failed:
            self._failed = True
            raise RuntimeError("once")
        await self._world.events.create(run_id, event("run_completed", output=b""))
        return None


async def play(
    url: str, make_world: MakeWorld, clock: ManualClock, zone: ZoneInfo, *steps: float
) -> Sleeper:
    """The run, with the clock stepped by so many seconds while it sleeps."""
    # The lease is out of this: the clock below goes faster than any handler works.
    world = make_world(url, clock=clock, lock_duration_ms=86_400_000)
    sleeper = Sleeper(world, clock, zone)
    await create_run(world, "wrun_1")
    await world.start()
    await world.queue(FLOW, {"runId": "wrun_1"})

    async def asleep() -> bool:
        page = await world.messages.list(run_id="wrun_1")
        return any(one.status == "pending" and one.deliveries == 0 for one in page.data)

    await until(asleep)
    for step in steps:
        clock.advance(step)
        await asyncio.sleep(0.02)
    async with going(clock):

        async def ended() -> bool:
            return (await world.runs.get("wrun_1")).is_final

        await until(ended)
    log = (await world.events.list("wrun_1")).data
    times = [one.created_at for one in log]
    assert times == sorted(times)
    assert [one.position for one in log] == [*range(1, len(log) + 1)]
    assert (await world.runs.get("wrun_1")).status == "completed"
    slept = {one.event_type: one.created_at for one in log}
    assert slept["wait_completed"] - slept["wait_created"] >= timedelta(seconds=NAP_S)
    await world.close()
    return sleeper


LOCAL_TIMES = [
    (2030, 3, 31, 1, 59, 30),  # Berlin leaves out the hour from two to three
    (2030, 10, 27, 2, 59, 30),  # and has it twice
    (2030, 3, 10, 1, 59, 30),  # St. John's likewise
    (2030, 11, 3, 1, 59, 30),
    (2030, 12, 31, 23, 59, 30),
    (2028, 2, 28, 23, 59, 30),
]


@pytest.mark.parametrize("local", LOCAL_TIMES, ids=lambda local: "-".join(map(str, local)))
async def test_sleeps_through_midnight_and_summer_time(
    sqlite_url: str, make_world: MakeWorld, zone: ZoneInfo, local: tuple[int, ...]
) -> None:
    start = datetime(*local, tzinfo=zone).astimezone(UTC)  # type: ignore[arg-type,misc]
    sleeper = await play(sqlite_url, make_world, ManualClock(start), zone)
    assert sleeper.early == 0


async def test_sleeps_through_midnight_on_postgres(
    postgres_url: str, make_world: MakeWorld, zone: ZoneInfo
) -> None:
    start = datetime(2030, 10, 27, 0, 59, 30, tzinfo=UTC)
    sleeper = await play(postgres_url, make_world, ManualClock(start), zone)
    assert sleeper.early == 0


@pytest.mark.parametrize("steps", [(-300,), (-300, 300, -300), (40, -86_400, 86_400), (-3_600,)])
async def test_a_clock_that_steps_back_only_delays(
    url: str, make_world: MakeWorld, steps: tuple[float, ...]
) -> None:
    await play(url, make_world, ManualClock(), ZoneInfo("UTC"), *steps)


async def test_a_step_back_gives_nobody_a_message_that_is_held(
    url: str, make_world: MakeWorld
) -> None:
    """A lease that began before the step lasts longer by it, and no other worker gets it."""
    clock = ManualClock()
    world, rival = (make_world(url, clock=clock, poll_interval_ms=n) for n in (20, 21))
    began: list[str] = []
    go_on = asyncio.Event()

    def handler(name: str) -> None:
        async def handle(message: object, **about: object) -> None:
            began.append(name)
            await go_on.wait()

        (world if name == "world" else rival).create_queue_handler(FLOWS, handle)

    for name in ("world", "rival"):
        handler(name)
    await world.start()
    await world.queue(FLOW, {"runId": "wrun_1"})

    async def held() -> bool:
        return bool(began)

    await until(held)
    await rival.start()
    for step in (-300, 290, -3_600, 3_600):
        clock.advance(step)
        await asyncio.sleep(0.05)
    assert began == ["world"]
    go_on.set()

    async def done() -> bool:
        return set((await world.messages.stats()).counts[FLOW]) == {"completed"}

    await until(done)
    assert began == ["world"]
