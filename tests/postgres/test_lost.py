"""Connections that are lost: before COMMIT, during it, and with the whole server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from servers.postgres import Postgres, Server

from workflow_world import World
from workflow_world.errors import BackendError
from workflow_world.sql import outages
from workflow_world.sql.compiled import Session
from workflow_world.sql.database import Database
from workflow_world.sql.postgres import connections, transaction

from .conftest import MakeWorld, Spawn
from .helpers import QUEUE, create_run, event, eventually, log_of
from .proxy import Cut, Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def far(make_world: MakeWorld, far_url: str) -> World:
    """A World behind the proxy."""
    world = make_world(far_url)
    await world.backend.open()
    return world


@pytest.mark.parametrize("when", ["before", "after", "reset"])
async def test_the_outcome_of_a_lost_commit_is_found_out(
    far: World, proxy: Proxy, when: Cut
) -> None:
    """Whether the server had it or not: the caller hears of one success, and it is there once."""
    proxy.cut(when)
    await create_run(far, "wrun_1")
    proxy.cut(when)
    await far.events.create("wrun_1", event("run_started"))
    proxy.cut(when)
    await far.streams.write("wrun_1", "out", b"x")
    proxy.cut(when)
    message_id = await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
    assert proxy.pending == 0
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "run_started"]
    assert (await far.streams.get_info("wrun_1", "out")).tail_index == 0
    found = await far.backend.messages.list_messages(
        status=None, run_id=None, queue_name=None, after=None, limit=9
    )
    assert [one.message_id for one in found] == [message_id]


@pytest.mark.parametrize("when", ["before", "after", "reset"])
async def test_a_commit_of_nothing_may_be_lost(far: World, proxy: Proxy, when: Cut) -> None:
    """The key is held already: nothing was written, so there is nothing to be in doubt about."""
    first = await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
    proxy.cut(when)
    assert await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k") == first
    assert proxy.pending == 0


@pytest.mark.parametrize("when", ["after", "reset"])
async def test_what_nothing_proves_is_an_unknown_outcome(
    far: World, proxy: Proxy, when: Cut
) -> None:
    """A deletion leaves no row to look for."""
    message_id = await far.queue(QUEUE, {"runId": "wrun_1"})
    proxy.cut(when)
    with pytest.raises(BackendError, match="COMMIT") as caught:
        await far.backend.messages.delete(message_id)
    assert caught.value.code == "UNKNOWN_OUTCOME"
    assert await far.backend.messages.get_message(message_id) is None


async def test_a_deletion_that_was_not_applied_is_done_again(far: World, proxy: Proxy) -> None:
    message_id = await far.queue(QUEUE, {"runId": "wrun_1"})
    proxy.cut("before")
    assert await far.backend.messages.delete(message_id)


async def test_a_whole_batch_is_found_out(far: World, proxy: Proxy) -> None:
    proxy.cut("after", 3)
    proxy.cut("reset", 3)
    proxy.cut("before", 3)
    await asyncio.gather(*(create_run(far, f"wrun_{number}") for number in range(40)))
    for number in range(40):
        assert await log_of(far, f"wrun_{number}") == [("run_created", None)]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("failed to resolve host 'nowhere'"),
        TimeoutError("the pool of the application's engine is exhausted"),
    ],
    ids=["the driver's", "another"],
)
async def test_an_outcome_that_nobody_can_be_asked_for_is_unknown(
    far: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The answer is lost and no connection can be made just then: nothing is written twice."""

    def fails(**arguments: Any) -> None:
        raise error

    monkeypatch.setattr(transaction, "_ASK_S", 0.3)
    await create_run(far, "wrun_1")
    with monkeypatch.context() as patch:
        patch.setattr(connections.psycopg, "connect", fails)
        proxy.cut("after")
        writes = (far.queue(QUEUE, {"runId": "wrun_1", "number": one}) for one in range(40))
        done = await asyncio.gather(*writes, return_exceptions=True)
    unknown = [one for one in done if getattr(one, "code", "") == "UNKNOWN_OUTCOME"]
    assert unknown
    found = await far.backend.messages.list_messages(
        status=None, run_id=None, queue_name=None, after=None, limit=100
    )
    written = {one.message_id for one in found}
    assert len({bytes(one.payload) for one in found}) == len(found)
    assert {one for one in done if isinstance(one, str)} <= written
    assert len(written) <= len(unknown) + sum(isinstance(one, str) for one in done)


async def test_what_lost_the_connection_is_said(
    far: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_run(far, "wrun_1")
    monkeypatch.setattr(outages, "PATIENCE_S", 0.0)
    proxy.cut("before", 2)
    with pytest.raises(outages.Unreachable, match=r"again and again: .*(lost|closed)"):
        await far.events.create("wrun_1", event("run_started"))


@pytest.mark.parametrize("end", ["cut_all", "reset_all"])
async def test_all_connections_are_cut(far: World, proxy: Proxy, end: str) -> None:
    """Idle ones, too: the next write and the next read open others."""
    await create_run(far, "wrun_1")
    end_all = getattr(proxy, end)
    for number in range(3):
        end_all()
        await far.events.create(
            "wrun_1", event("step_created", f"s{number}", stepName="s", input=1)
        )
        end_all()
        assert len(await log_of(far, "wrun_1")) == number + 2
        end_all()
        assert (await far.runs.get("wrun_1")).run_id == "wrun_1"


async def test_a_server_that_falls_silent(
    make_world: MakeWorld, proxy: Proxy, far_url: str, monkeypatch: Any
) -> None:
    """Nothing is answered and nothing is closed: neither a write nor a read waits for ever."""
    monkeypatch.setattr(connections, "GRACE_S", 0.2)
    world = make_world(far_url, statement_timeout_ms=300)
    await create_run(world, "wrun_1")
    for number in range(2):
        proxy.half_open()
        await world.events.create(
            "wrun_1", event("step_created", f"s{number}", stepName="s", input=1)
        )
        proxy.half_open()
        assert len(await log_of(world, "wrun_1")) == number + 2
        proxy.half_open()
        assert (await world.runs.get("wrun_1")).run_id == "wrun_1"


async def test_backends_are_terminated(world: World, server: Server, name: str) -> None:
    """As an administrator does it, in the middle of writes."""

    async def write(task: int) -> None:
        for number in range(10):
            await create_run(world, f"wrun_{task}_{number}")

    tasks = [asyncio.create_task(write(task)) for task in range(8)]
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
        f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    while not all(task.done() for task in tasks):
        await asyncio.to_thread(server.execute, terminate)
        await asyncio.sleep(0.1)
    await asyncio.gather(*tasks)
    (count,) = server.execute("SELECT count(*) FROM workflow_runs", name)[0]
    (events,) = server.execute("SELECT count(*) FROM workflow_events", name)[0]
    assert (count, events) == (80, 80)


async def test_a_connection_that_is_lost_as_soon_as_it_is_made(
    world: World, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent on it yet: another one is made."""
    await create_run(world, "wrun_1")
    run_sql, cuts = connections.run_sql, 0

    def cut(connection: connections.Connection, sql: str) -> Any:
        nonlocal cuts
        if sql.startswith("SET ") and cuts < 2:
            cuts += 1
            server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        return run_sql(connection, sql)

    monkeypatch.setattr(connections, "run_sql", cut)
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
        f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    await create_run(world, "wrun_2")
    assert cuts == 2
    assert server.execute("SELECT count(*) FROM workflow_runs", name) == [(2,)]


# --- the whole server ------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Postgres]:
    with Postgres() as found:
        yield found


@pytest.mark.timeout(240)
async def test_a_server_that_is_killed_loses_nothing_acknowledged(
    own: Postgres, make_world: MakeWorld, spawn: Spawn
) -> None:
    """SIGKILL of the postmaster three times in the middle of writes, and one backend's crash."""
    url = own.url()
    world = make_world(url)
    await world.backend.open()
    acknowledged: list[str] = []
    failures: list[str] = []
    children = [spawn("write", url, str(number)) for number in range(3)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"

    def follow(child: object) -> None:
        for line in child.process.stdout:  # type: ignore[attr-defined]
            (failures if line.startswith("lost ") else acknowledged).append(line.strip())

    followers = [asyncio.create_task(asyncio.to_thread(follow, child)) for child in children]
    for child in children:
        child.go()
    for disaster in (own.kill, own.crash, own.kill, own.kill):
        before = len(acknowledged)
        await eventually(lambda before=before: len(acknowledged) > before + 30)
        await asyncio.to_thread(disaster)
        if disaster == own.kill:
            await asyncio.to_thread(own.start)
    before = len(acknowledged)
    await eventually(lambda: len(acknowledged) > before + 30)
    for child in children:
        child.process.send_signal(signal.SIGKILL)
    await asyncio.gather(*followers)

    found = set(own.execute("SELECT run_id, event_type FROM workflow_events"))
    for line in acknowledged:
        run_id, kind = line.split()
        assert (run_id, kind) in found
    # Whole logs: dense positions, and no run without its creation.
    gaps = own.execute(
        "SELECT run_id FROM workflow_events GROUP BY run_id HAVING max(position) <> count(*)"
    )
    assert gaps == []
    # Any that failed failed for the server's absence only.
    assert {line.split()[1] for line in failures} <= {"Unreachable", "BackendError"}
    await create_run(world, "wrun_after")


async def test_a_server_that_is_away_is_one_clear_error_and_comes_back(
    own: Postgres, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflow_world.sql import outages

    world = make_world(own.url())
    await create_run(world, "wrun_1")
    own.stop()
    monkeypatch.setattr(outages, "PATIENCE_S", 0.2)
    with pytest.raises(BackendError) as caught:
        await create_run(world, "wrun_2")
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError):
        await world.runs.get("wrun_1")
    own.start()
    await create_run(world, "wrun_2")
    assert (await world.runs.get("wrun_1")).run_id == "wrun_1"


async def test_a_write_waits_for_a_server_that_is_restarted(
    own: Postgres, make_world: MakeWorld
) -> None:
    world = make_world(own.url())
    await create_run(world, "wrun_1")
    own.stop()
    write = asyncio.create_task(create_run(world, "wrun_2"))
    read = asyncio.create_task(world.runs.get("wrun_1"))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(own.start)
    await asyncio.gather(write, read)


# --- rows that others hold -------------------------------------------------------------------


async def test_a_run_that_somebody_keeps_locked_fails_alone(
    make_world: MakeWorld, url: str
) -> None:
    """Its writers give up after the lock timeout; others of the same batch are written."""
    world = make_world(lock_timeout_ms=300, pool_size=1)
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    with psycopg.connect(url) as rival:
        rival.execute("SELECT 1 FROM workflow_runs WHERE run_id = 'wrun_1' FOR UPDATE")
        done = await asyncio.gather(
            *(
                world.events.create(run_id, event("run_started"))
                for run_id in ("wrun_1", "wrun_2", "wrun_1")
            ),
            return_exceptions=True,
        )
        assert [isinstance(one, BackendError) for one in done] == [True, False, True]
        assert "lock_timeout_ms" in str(done[0])
    await world.events.create("wrun_1", event("run_started"))


async def test_one_failing_operation_fails_alone(database: Database) -> None:
    def bad(session: Session) -> None:
        raise RuntimeError("boom")

    store = [asyncio.create_task(database.write(lambda session: 1)) for _ in range(5)]
    failing = asyncio.create_task(database.write(bad))
    with pytest.raises(RuntimeError, match="boom"):
        await failing
    assert await asyncio.gather(*store) == [1] * 5
