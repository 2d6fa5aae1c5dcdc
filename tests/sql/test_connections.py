"""Every connection's pragmas, the file's mode, and many processes on one file (B191)."""

# ruff: noqa: ASYNC240  # looking at a few local files holds nobody up

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from .conftest import MakeWorld, Spawn
from .helpers import PATIENCE_S, Trace, count, create_run, raw, rows, watched

pytestmark = pytest.mark.anyio

FULL, NORMAL = 2, 1
LIMIT = 64 << 20


async def use_all(trace: Trace, make_world: MakeWorld, **options: object) -> None:
    """Make the pool open its writer, all its readers and the watcher's connection."""
    world = make_world(**options)
    await create_run(world, "wrun_1")
    await asyncio.gather(*(world.runs.list() for _ in range(50)))
    before = len(trace.connections)
    subscription = world.backend.notifier.subscribe("queue")
    waiting = asyncio.create_task(subscription.wait(None))
    await watched(trace, before)
    async with asyncio.timeout(PATIENCE_S):
        # One of a given engine is seen before it is set up, on the watcher's thread.
        while pragma(trace.connections[-1], "journal_size_limit") != LIMIT:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    subscription.close()
    await waiting


def waits_for_the_disk(connection: sqlite3.Connection) -> bool:
    """The writer chooses for each commit (``test_flushes``): it is left out."""
    return pragma(connection, "synchronous") == FULL or pragma(connection, "busy_timeout") == 0


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_every_connection_has_the_pragmas(trace: Trace, make_world: MakeWorld) -> None:
    await use_all(trace, make_world)
    assert len(trace.connections) >= 4
    for connection in trace.connections:
        assert pragma(connection, "journal_mode") == "wal"
        assert waits_for_the_disk(connection)
        assert pragma(connection, "foreign_keys") == 1
        assert pragma(connection, "journal_size_limit") == LIMIT
        assert connection.isolation_level is None
    timeouts = sorted(int(str(pragma(one, "busy_timeout"))) for one in trace.connections)
    # The writer retries by itself, with jitter, which is fairer than SQLite's own handler.
    assert timeouts == [0, *([5000] * (len(timeouts) - 1))]


async def test_synchronous_normal_reaches_every_connection(
    trace: Trace, make_world: MakeWorld
) -> None:
    await use_all(trace, make_world, synchronous="normal")
    assert {pragma(connection, "synchronous") for connection in trace.connections} == {NORMAL}


async def test_a_given_engine_gets_the_same_pragmas(
    trace: Trace, make_world: MakeWorld, url: str, path: Path
) -> None:
    engine = create_engine(f"sqlite:///{path}")
    try:
        await use_all(trace, make_world, engine=engine)
        for connection in trace.connections:
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "foreign_keys") == 1
            assert waits_for_the_disk(connection)
    finally:
        for world_connection in trace.connections:
            world_connection.set_trace_callback(None)
        # The World closes after the test; its connections are the engine's.
    assert count(path, "workflow_runs") == 1


async def test_a_given_engine_is_left_to_its_owner(
    make_world: MakeWorld, url: str, path: Path
) -> None:
    engine = create_engine(f"sqlite:///{path}")
    try:
        world = make_world(engine=engine)
        await create_run(world, "wrun_1")
        await world.close()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM workflow_runs").scalar() == 1
            timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
            assert timeout == 5000
    finally:
        engine.dispose()


async def test_with_a_given_engine_its_own_file_is_the_one_that_is_used(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Presence and wake-ups must be about the engine's file, not about the default URL: else a
    starting worker "proves" on another lock file that it is alone, and frees live leases."""
    monkeypatch.chdir(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
    try:
        world = make_world("file:workflow.db", engine=engine)
        await world.start()
        await create_run(world, "wrun_1")
        assert (tmp_path / "own.db-workers").exists()
        assert not list(tmp_path.glob("workflow.db*"))
        await world.close()
    finally:
        engine.dispose()


async def test_a_new_file_and_what_belongs_to_it_are_private(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        world = make_world()
        await world.start()
        await create_run(world, "wrun_1")
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert files.keys() >= {"w.db", "w.db-wal", "w.db-shm", "w.db-workers"}
    assert set(files.values()) == {0o600}


async def test_the_mode_of_an_existing_file_is_its_owners_business(
    make_world: MakeWorld, path: Path
) -> None:
    path.touch()
    path.chmod(0o640)
    await create_run(make_world(), "wrun_1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_writer_waits_for_another_process_that_holds_the_lock(
    make_world: MakeWorld, path: Path
) -> None:
    world = make_world()
    await world.backend.open()
    with raw(path) as rival:
        rival.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(create_run(world, "wrun_1"))
        # Reads are not held up, and the write is neither done nor refused meanwhile.
        for _ in range(20):
            assert (await world.runs.list()).data == ()
        assert not writing.done()
        rival.execute("COMMIT")
        async with asyncio.timeout(30):
            await writing
    assert count(path, "workflow_runs") == 1


@pytest.mark.timeout(240)
async def test_eight_processes_write_without_a_locked_database(
    spawn: Spawn, url: str, path: Path
) -> None:
    processes, runs = 8, 40
    children = [spawn("write", url, str(n), str(runs)) for n in range(processes)]
    for child in children:
        assert child.line() == "ready"
    for child in children:
        child.go()
    for child in children:
        assert child.end() == ""
    total = processes * runs
    assert count(path, "workflow_runs") == total
    assert count(path, "workflow_steps") == total
    assert count(path, "workflow_events") == 6 * total
    assert count(path, "queue_messages") == total
    assert count(path, "stream_chunks") == total
    places = "SELECT DISTINCT count(*), min(position), max(position)"
    assert rows(path, f"{places} FROM workflow_events GROUP BY run_id") == [(6, 1, 6)]
    assert rows(path, "SELECT DISTINCT status FROM workflow_runs") == [("completed",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_in_memory_readers_and_writers_do_not_lock_each_other_out(
    make_world: MakeWorld,
) -> None:
    world = make_world(":memory:")

    async def read() -> None:
        for _ in range(150):
            await world.runs.list()

    async def write(name: str) -> None:
        for number in range(75):
            await create_run(world, f"wrun_{name}_{number}")

    await asyncio.gather(read(), read(), read(), write("a"), write("b"))
    assert len((await world.runs.list(limit=1000)).data) == 150
