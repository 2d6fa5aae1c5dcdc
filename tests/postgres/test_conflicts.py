"""Other transactions that are in the way: deadlocks, and locks that are held for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from servers.postgres import Server

from workflow_world import World, faults
from workflow_world.errors import BackendError
from workflow_world.sql.near_lane import Throttle

from .conftest import MakeWorld
from .helpers import create_run, event, eventually, log_of

pytestmark = pytest.mark.anyio

LOCK = "SELECT 1 FROM workflow_runs WHERE run_id = %s FOR UPDATE"


class Rival:
    """A transaction of somebody else's."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)
        # The others notice a deadlock first.
        self._connection.execute("SET deadlock_timeout = '60s'")
        self._connection.commit()
        self.pid = self._connection.info.backend_pid

    def lock(self, run_id: str) -> None:
        self._connection.execute(LOCK, (run_id,))

    def end(self) -> None:
        self._connection.commit()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def rivals(server: Server, name: str) -> Iterator[list[Rival]]:
    with ExitStack() as stack:
        found = [Rival(server.url(name)) for _ in range(2)]
        for rival in found:
            stack.callback(rival.close)
        yield found


@pytest.fixture
async def world(
    make_world: MakeWorld, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> World:
    """One with a single lane, which works on its thread as behind a slow server, so that what
    comes together while it is held up is one batch. A deadlock is looked for late, when there is
    one in any case."""
    monkeypatch.setattr(Throttle, "allows", lambda throttle: False)
    server.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '4s'")
    world = make_world(pool_size=2)
    await world.backend.open()
    return world


def blocked(server: Server, name: str) -> bool:
    """Whether a transaction waits for a lock."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    return server.execute(f"{sql} AND wait_event_type = 'Lock'") != [(0,)]


def step(number: int) -> dict[str, object]:
    return event("step_created", f"step_{number}", stepName="s", input=1)


async def held_up(world: World, rival: Rival, server: Server, name: str) -> asyncio.Task[object]:
    """A step that waits for the rival's transaction: what comes meanwhile is one batch."""
    rival.lock("wrun_held")
    held = asyncio.create_task(world.events.create("wrun_held", step(1)))
    await eventually(lambda: blocked(server, name))
    return held


async def in_each_others_way(
    world: World, rivals: list[Rival], server: Server, name: str
) -> list[asyncio.Task[object]]:
    """A step in each of two runs, in one batch, which has locked the one and waits for the other;
    that is the second rival's."""
    first, second = rivals
    for run in ("a", "b", "held"):
        await create_run(world, f"wrun_{run}")
    second.lock("wrun_b")
    held = await held_up(world, first, server, name)
    both = [asyncio.create_task(world.events.create(run, step(1))) for run in ("wrun_a", "wrun_b")]
    await asyncio.sleep(0)
    first.end()
    await held
    await eventually(lambda: blocked(server, name))
    return both


async def are_done(
    world: World, both: list[asyncio.Task[object]], server: Server, name: str, deadlocks: int
) -> None:
    """Nobody heard of the deadlocks, of which there were at least so many."""
    await asyncio.gather(*both)
    for run in ("wrun_a", "wrun_b"):
        assert [kind for kind, _ in await log_of(world, run)] == ["run_created", "step_created"]
    count = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'"  # noqa: S608
    # A connection tells what it has counted once it has been idle for a while.
    await eventually(lambda: server.execute(count)[0][0] >= deadlocks)


async def test_a_deadlock_is_done_again(
    world: World, rivals: list[Rival], server: Server, name: str
) -> None:
    """The batch waits first, so the server chooses it."""
    both = await in_each_others_way(world, rivals, server, name)
    await asyncio.to_thread(rivals[1].lock, "wrun_a")
    rivals[1].end()
    await are_done(world, both, server, name, 1)


async def test_what_was_undone_may_be_first_again(
    world: World, rivals: list[Rival], server: Server, name: str
) -> None:
    """The other one has been slow to notice that it may go on: a deadlock once more."""
    both = await in_each_others_way(world, rivals, server, name)
    slow = rivals[1]
    waiting = (
        "SELECT backend_xid::text FROM pg_stat_activity"  # noqa: S608
        f" WHERE datname = '{name}' AND wait_event_type = 'Lock' AND pid"
    )
    undone = server.execute(f"{waiting} <> {slow.pid}")
    locked = asyncio.create_task(asyncio.to_thread(slow.lock, "wrun_a"))
    await eventually(lambda: server.execute(f"{waiting} = {slow.pid}"))
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: server.execute(f"{waiting} <> {slow.pid}") not in ([], undone))
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    await locked
    slow.end()
    await are_done(world, both, server, name, 2)


async def test_what_was_prepared_is_gone(world: World) -> None:
    """As behind a pooler that nobody mentioned: another connection is made."""
    await create_run(world, "wrun_1")
    for number in range(2):
        for connection in world.backend.database._pool._idle:  # type: ignore[attr-defined]
            connection.execute("DEALLOCATE ALL")
        await world.events.create("wrun_1", step(number))
    assert len(await log_of(world, "wrun_1")) == 3


REFUSES = (
    "CREATE FUNCTION no_bad() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE 'not this one'; END $$;"
    "CREATE TRIGGER no_bad BEFORE INSERT ON workflow_runs FOR EACH ROW"
    " WHEN (NEW.run_id = 'wrun_0bad') EXECUTE FUNCTION no_bad()"
)
"""A run that the database refuses."""


async def test_a_connection_that_is_lost_while_a_failed_batch_is_run_apart(
    world: World, rivals: list[Rival], server: Server, name: str
) -> None:
    """All of it is done again, and only the one that fails has failed."""
    await create_run(world, "wrun_held")
    server.execute(REFUSES, name)
    inserts = 0

    def reached(point: str) -> None:
        nonlocal inserts
        if point == "before insert run":
            inserts += 1
            if inserts == 4:  # two of them were together before
                server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
                    f" WHERE datname = '{name}' AND state LIKE 'idle in transaction%'"
                )

    held = await held_up(world, rivals[0], server, name)
    with faults.armed(reached):
        both = asyncio.gather(
            create_run(world, "wrun_0bad"), create_run(world, "wrun_1"), return_exceptions=True
        )
        await asyncio.sleep(0)
        rivals[0].end()
        done = await both
    await held
    assert inserts == 6
    assert "not this one" in str(done[0])
    assert done[1] is None
    assert await log_of(world, "wrun_1") == [("run_created", None)]


async def test_a_neighbour_of_what_fails_waits_for_its_lock(
    world: World, rivals: list[Rival], server: Server, name: str
) -> None:
    """While a failed batch is run apart nobody waits for long; who would have to comes after it."""
    rival, second = rivals
    for run in ("1", "held"):
        await create_run(world, f"wrun_{run}")
    server.execute(REFUSES, name)
    inserts = 0

    def reached(point: str) -> None:
        nonlocal inserts
        if point == "before insert run":
            inserts += 1
            if inserts == 2:
                rival.lock("wrun_1")
                threading.Timer(0.7, rival.end).start()

    held = await held_up(world, second, server, name)
    with faults.armed(reached):
        both = asyncio.gather(
            create_run(world, "wrun_0bad"),
            world.events.create("wrun_1", step(1)),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        second.end()
        done = await both
    await held
    assert inserts == 2
    assert isinstance(done[0], BackendError)
    assert not isinstance(done[1], BaseException), done[1]
    assert [kind for kind, _ in await log_of(world, "wrun_1")] == ["run_created", "step_created"]
