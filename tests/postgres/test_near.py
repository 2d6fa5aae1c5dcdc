"""What is quick happens on the event loop's own thread, and nothing holds that up for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from servers.postgres import Server

from workflow_world import World, create_world, faults
from workflow_world.errors import BackendError
from workflow_world.sql.near_lane import Throttle
from workflow_world.sql.postgres import connections
from workflow_world.sql.postgres.wire import Sql, Wire

from .conftest import MakeWorld
from .helpers import create_run, event, eventually, log_of
from .proxy import Proxy

pytestmark = pytest.mark.anyio

WRITER, GLANCER = "workflow-world-writer", "workflow-world-glancer"
COMMIT = "before commit"
LOOK = "looking load run"


async def create_step(world: World) -> None:
    await world.events.create("wrun_1", event("step_created", "s", stepName="s", input=1))


class Points:
    """Which fault points were reached, and on which thread each."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str]] = []

    def __call__(self, point: str) -> None:
        self.reached.append((point, threading.current_thread().name))

    def threads(self, point: str) -> list[str]:
        """``here`` for the test's own; else the lane's, without its number."""
        here = threading.current_thread().name
        names = [thread for name, thread in self.reached if name == point]
        return ["here" if name == here else name.rsplit("-", 1)[0] for name in names]


@pytest.fixture(autouse=True)
def always_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is quick enough, whatever else the machine does."""
    monkeypatch.setattr(Throttle, "took", lambda throttle, seconds: None)
    monkeypatch.setattr(connections, "NEAR_S", 1.0)


@pytest.fixture
async def far(make_world: MakeWorld, far_url: str) -> World:
    """A World behind the proxy, with a run."""
    world = make_world(far_url)
    await create_run(world, "wrun_1")
    await world.runs.get("wrun_1")
    await rest(world)
    return world


async def rest(world: World) -> None:
    """Returns when the lanes' threads have nothing to do: they answer a little before."""
    database = world.backend.database  # type: ignore[attr-defined]
    await eventually(lambda: not database._writes._pending and not database._glances._pending)


@pytest.fixture
async def points() -> AsyncIterator[Points]:
    points = Points()
    with faults.armed(points):
        yield points


async def test_one_turn_is_one_transaction_on_the_loops_thread(
    world: World, points: Points
) -> None:
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in range(30)))
    assert points.threads(COMMIT) == ["here"]
    assert points.threads("after insert event") == ["here"] * 30


async def test_one_turns_glances_are_one_round_trip(
    world: World, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"wrun_{number}" for number in range(30)]
    await asyncio.gather(*(create_run(world, name) for name in names))
    run, trips = Wire.run, list[list[Sql]]()

    def counted(wire: Wire, statements: list[Sql]) -> Any:
        trips.append(statements)
        return run(wire, statements)

    await rest(world)
    monkeypatch.setattr(Wire, "run", counted)
    points.reached.clear()
    found = await asyncio.gather(*(world.runs.get(name) for name in names))
    assert [one.run_id for one in found] == names
    assert points.threads(LOOK) == ["here"] * 30
    assert len(trips) == 1


async def test_a_commit_that_takes_long_is_waited_for_elsewhere(
    far: World, proxy: Proxy, points: Points
) -> None:
    """It is not done again, and what comes meanwhile is the threads'."""
    proxy.cut("late")
    started = asyncio.create_task(create_step(far))
    await eventually(proxy.late.is_set)
    meanwhile = asyncio.create_task(create_run(far, "wrun_2"))
    await eventually(lambda: points.threads(COMMIT) == ["here", WRITER])
    await meanwhile
    assert not started.done()
    proxy.release.set()
    await started
    assert points.threads(COMMIT) == ["here", WRITER]
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "step_created"]
    await rest(far)
    await create_run(far, "wrun_3")
    assert points.threads(COMMIT)[-1] == "here"


async def test_closing_waits_for_that_commit(far: World, proxy: Proxy) -> None:
    proxy.cut("late")
    started = asyncio.create_task(create_step(far))
    await eventually(proxy.late.is_set)
    closing = asyncio.create_task(far.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    proxy.release.set()
    await closing
    await started


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_became_of_a_lost_commit_is_asked_elsewhere(
    far: World, proxy: Proxy, points: Points, monkeypatch: pytest.MonkeyPatch, when: Any
) -> None:
    connect, threads = psycopg.connect, list[str]()

    def noting(*arguments: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        return connect(*arguments, **named)

    proxy.cut(when)
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", noting)
        await create_step(far)
    assert points.threads(COMMIT)[0] == "here"
    assert threads
    assert threading.current_thread().name not in threads
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "step_created"]


async def test_what_takes_long_before_the_commit_is_undone_and_done_by_a_thread(
    far: World, proxy: Proxy, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "NEAR_S", 0.05)
    before = proxy.connections
    proxy.delay_s = 0.2
    await create_step(far)
    assert points.threads("after insert event")[-1] == WRITER
    assert points.threads(COMMIT) == [WRITER]
    points.reached.clear()
    await far.runs.get("wrun_1")
    assert points.threads(LOOK) == ["here", GLANCER]
    assert proxy.connections == before, "no connection was given up for it"
    proxy.delay_s = 0
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "step_created"]


async def test_what_fails_late_keeps_its_connection(
    far: World, url: str, proxy: Proxy, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to its ROLLBACK comes when the event loop waits no longer."""
    monkeypatch.setattr(connections, "NEAR_S", 0.3)
    before = proxy.connections
    proxy.delay_s = 0.2
    with psycopg.connect(url) as rival:
        rival.execute("SELECT 1 FROM workflow_runs WHERE run_id = 'wrun_1' FOR UPDATE")
        started = asyncio.create_task(create_step(far))
        await eventually(lambda: len(points.threads("looking lock runs")) == 2)
    await started
    assert points.threads("looking lock runs") == ["here", WRITER]
    assert proxy.connections == before


async def test_the_loop_goes_on_while_somebody_holds_the_run(
    far: World, url: str, points: Points
) -> None:
    with psycopg.connect(url) as rival:
        rival.execute("SELECT 1 FROM workflow_runs WHERE run_id = 'wrun_1' FOR UPDATE")
        started = asyncio.create_task(create_step(far))
        await eventually(lambda: points.threads("looking lock runs") == ["here", WRITER])
        assert not started.done()
    await started
    assert points.threads(COMMIT) == [WRITER]
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "step_created"]


async def test_a_pool_of_one_serves_them_all(make_world: MakeWorld) -> None:
    world = make_world(pool_size=1)

    async def one(run_id: str) -> None:
        await create_run(world, run_id)
        assert (await world.runs.get(run_id)).run_id == run_id
        assert await log_of(world, run_id) == [("run_created", None)]

    await asyncio.gather(*(one(f"wrun_{number}") for number in range(60)))


async def test_several_event_loops_write_at_once(world: World) -> None:
    async def some(first: int) -> None:
        await asyncio.gather(*(create_run(world, f"wrun_{first + n}") for n in range(25)))

    def loop(first: int) -> None:
        asyncio.run(some(first))

    await asyncio.gather(*(asyncio.to_thread(loop, 100 * n) for n in range(4)), some(1000))
    runs = (await world.runs.list(limit=200)).data
    assert len(runs) == 125


@pytest.mark.parametrize(("point", "stored"), [(COMMIT, []), ("after commit", ["wrun_1"])])
def test_an_interrupted_batch_is_whole_and_its_outcome_unknown(
    url: str, server: Server, name: str, point: str, stored: list[str]
) -> None:
    """A signal's handler may raise at any place."""
    world = create_world(url)

    def interrupt(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(world.backend.open())
        writer = loop.create_task(create_run(world, "wrun_1"))
        with faults.armed(interrupt), pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(writer)
        with pytest.raises(BackendError) as unknown:
            loop.run_until_complete(writer)
        assert unknown.value.code == "UNKNOWN_OUTCOME"
        loop.run_until_complete(create_run(world, "wrun_2"))
        loop.run_until_complete(world.close())
        loop.run_until_complete(loop.shutdown_default_executor())
    found = server.execute("SELECT run_id FROM workflow_runs ORDER BY run_id", name)
    assert found == [(run_id,) for run_id in [*stored, "wrun_2"]]
