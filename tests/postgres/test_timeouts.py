"""Our own time limits: what is held up for longer ends as one clear error, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from servers.postgres import Server

from workflow_world import World
from workflow_world.backend import Lease
from workflow_world.errors import BackendError
from workflow_world.sql.postgres import connections

from .conftest import MakeWorld
from .helpers import QUEUE, create_run, event, log_of

pytestmark = pytest.mark.anyio

LIMITS = {
    "statement_timeout_ms": {"statement_timeout_ms": 1_000, "lock_timeout_ms": 60_000},
    "lock_timeout_ms": {"statement_timeout_ms": 60_000, "lock_timeout_ms": 1_000},
}
HELD_UP: dict[str, Callable[[World], Awaitable[object]]] = {
    "an event": lambda world: world.events.create("wrun_1", event("run_started")),
    "a message": lambda world: world.queue(QUEUE, {"runId": "wrun_1"}),
    "a chunk": lambda world: world.streams.write("wrun_1", "out", b"x"),
    "a list": lambda world: world.runs.list(),
    "a row": lambda world: world.runs.get("wrun_1"),
    "a log": lambda world: world.events.list("wrun_1"),
}
TABLES = "workflow_runs, workflow_events, queue_messages, stream_chunks"


def backends(server: Server, name: str) -> set[int]:
    """The server's processes for our connections."""
    sql = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    ours = f"{sql} AND application_name = 'workflow-world'"
    return {pid for (pid,) in server.execute(ours)}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("pooler", [False, True], ids=["direct", "pooler"])
@pytest.mark.parametrize("what", HELD_UP)
async def test_what_is_held_up_for_too_long(
    make_world: MakeWorld, server: Server, name: str, url: str, what: str, pooler: bool, limit: str
) -> None:
    """The same connection works afterwards, and what was refused was not written."""
    world = make_world(**LIMITS[limit], pool_size=1, transaction_pooler=pooler, notifications=False)
    await create_run(world, "wrun_1")
    before = backends(server, name)
    with psycopg.connect(url) as rival:
        rival.execute(f"LOCK TABLE {TABLES} IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(BackendError, match=f"timeout.*{limit}") as caught:
            await HELD_UP[what](world)
        assert "\n" not in str(caught.value)
    assert await log_of(world, "wrun_1") == [("run_created", None)]
    assert (await world.messages.stats()).counts == {}
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == -1
    await HELD_UP[what](world)
    assert backends(server, name) == before
    assert len(before) == 1


@pytest.mark.parametrize("limit", LIMITS)
async def test_the_neighbours_of_what_is_held_up_are_written(
    make_world: MakeWorld, url: str, limit: str
) -> None:
    world = make_world(**LIMITS[limit], pool_size=1)
    for number in range(5):
        await create_run(world, f"wrun_{number}")
    with psycopg.connect(url) as rival:
        rival.execute("SELECT 1 FROM workflow_runs WHERE run_id = 'wrun_2' FOR UPDATE")
        started = (
            world.events.create(f"wrun_{number}", event("run_started")) for number in range(5)
        )
        done = await asyncio.gather(*started, return_exceptions=True)
    assert [isinstance(one, BackendError) for one in done] == [False, False, True, False, False]
    assert limit in str(done[2])
    for number in range(5):
        kinds = [kind for kind, _ in await log_of(world, f"wrun_{number}")]
        assert kinds == ["run_created", "run_started"][: 1 if number == 2 else 2]
    await world.events.create("wrun_2", event("run_started"))


_HOLD = "SELECT 1 FROM queue_messages WHERE message_id = %s FOR UPDATE"


async def leases(world: World, count: int) -> list[Lease]:
    for number in range(count):
        await world.queue(QUEUE, {"runId": f"wrun_{number}"})
    claim = await world.backend.messages.claim(
        limit=count, lease=timedelta(seconds=30), serialize_runs=True, prefixes=None
    )
    return [Lease(message_id=one.message_id, token=one.lease_token or "") for one in claim.messages]


async def test_a_lease_is_extended_while_others_wait_for_a_run(
    make_world: MakeWorld, url: str
) -> None:
    """Else it ran out, and a step that is alive were started again."""
    world = make_world(lock_timeout_ms=3_000)
    held = await leases(world, 1)
    runs = [f"wrun_{number}" for number in range(8)]
    for run_id in runs:
        await create_run(world, run_id)
    with psycopg.connect(url) as rival:
        rival.execute("SELECT 1 FROM workflow_runs FOR UPDATE")
        writing = [
            asyncio.create_task(world.events.create(run_id, event("run_started")))
            for run_id in runs
        ]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(2):
            extend = world.backend.messages.extend
            assert not await asyncio.to_thread(extend, held, timedelta(seconds=30))
        assert not any(one.done() for one in writing)
    await asyncio.gather(*writing)


async def test_the_other_leases_are_extended_when_a_message_is_held(
    make_world: MakeWorld, server: Server, name: str, url: str
) -> None:
    """Soon, for they may be shorter than the longest wait for a lock."""
    world = make_world()
    held = await leases(world, 5)
    extend = world.backend.messages.extend
    with psycopg.connect(url) as rival:
        rival.execute(_HOLD, (held[2].message_id,))
        async with asyncio.timeout(3):
            assert not await asyncio.to_thread(extend, held, timedelta(hours=1))
    until = "SELECT message_id FROM queue_messages WHERE leased_until > updated_at + 60000"
    extended = {found for (found,) in server.execute(until, name)}
    assert extended == {one.message_id for one in held} - {held[2].message_id}
    assert not await asyncio.to_thread(extend, held, timedelta(hours=1))


async def test_a_message_that_is_held_keeps_its_worker_from_nothing(
    make_world: MakeWorld, url: str
) -> None:
    """It waited for the lease of that one to be extended before it claimed, for as long as that
    took."""
    world, other = make_world(lock_duration_ms=300), make_world()
    came, go, heard = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(message: Any, **about: object) -> None:
        if message["runId"] == "wrun_1":
            came.set()
            await go.wait()
        else:
            heard.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    message_id = await other.queue(QUEUE, {"runId": "wrun_1"})
    await came.wait()
    with psycopg.connect(url) as rival:
        rival.execute(_HOLD, (message_id,))
        await asyncio.sleep(1)
        await other.queue(QUEUE, {"runId": "wrun_2"})
        async with asyncio.timeout(5):
            await heard.wait()
    go.set()


def test_what_is_long_under_way_is_not_given_up() -> None:
    """A large value on a slow line: something comes, with pauses."""

    def answer() -> Generator[int, int]:
        while True:
            yield 1

    connection = psycopg.Connection.__new__(psycopg.Connection)
    waiting = connections._bounded(answer(), connection, 0.1)
    next(waiting)
    for number in range(57):
        time.sleep(0.02)
        waiting.send(number % 3 == 0)
    waiting.close()
