"""The write lane: many writers, one commit; a failure is one caller's; nothing by halves."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow_world import World, faults
from workflow_world.errors import BackendError, EntityConflictError, WorldError
from workflow_world.sql import open_backend
from workflow_world.sql.compiled import Session
from workflow_world.sql.database import Database

from .conftest import MakeWorld
from .helpers import (
    QUEUE,
    Held,
    Trace,
    adding,
    create_run,
    numbers,
    raw,
    rows,
    scratch,
    within_patience,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def table(database: Database, path: Path) -> None:
    scratch(path)


# --- group commit ----------------------------------------------------------------------------


async def test_fifty_writers_share_one_commit(
    trace: Trace, database: Database, table: None, path: Path
) -> None:
    async with Held(database):
        trace.clear()
        writers = [asyncio.create_task(database.write(adding(n))) for n in range(50)]
    assert await asyncio.gather(*writers) == [1] * 50
    # The batch that held the lane had begun already.
    assert trace.count("BEGIN IMMEDIATE") == 1
    assert trace.count("COMMIT") == 2
    assert numbers(path) == list(range(50))


async def test_fifty_events_of_fifty_runs_share_one_commit(trace: Trace, world: World) -> None:
    database = world.backend.database  # type: ignore[attr-defined]
    async with Held(database):
        trace.clear()
        writers = [asyncio.create_task(create_run(world, f"wrun_{n}")) for n in range(50)]
    await asyncio.gather(*writers)
    assert trace.count("BEGIN IMMEDIATE") == 1
    assert trace.count("INSERT workflow_events") == 50


async def test_a_batch_is_bounded(
    trace: Trace, database: Database, table: None, path: Path
) -> None:
    many = 300  # the bound is 256
    async with Held(database):
        trace.clear()
        writers = [asyncio.create_task(database.write(adding(n))) for n in range(many)]
    await asyncio.gather(*writers)
    assert trace.count("BEGIN IMMEDIATE") == 2
    assert len(numbers(path)) == many


async def test_results_are_handed_out_after_the_commit(
    database: Database, table: None, path: Path
) -> None:
    seen: list[list[int]] = []

    async def write(number: int) -> None:
        await database.write(adding(number))
        seen.append(numbers(path))

    async with Held(database):
        writers = [asyncio.create_task(write(n)) for n in range(5)]
    await asyncio.gather(*writers)
    assert seen == [[0, 1, 2, 3, 4]] * 5


# --- failures --------------------------------------------------------------------------------


async def test_a_failing_operation_leaves_its_neighbours_alone(
    trace: Trace, database: Database, table: None, path: Path
) -> None:
    await database.write(adding(7))
    async with Held(database):
        trace.clear()
        writers = [asyncio.create_task(database.write(adding(100 + n, n))) for n in range(5, 10)]
    results = await asyncio.gather(*writers, return_exceptions=True)
    assert [result for result in results if not isinstance(result, BaseException)] == [2] * 4
    (error,) = (result for result in results if isinstance(result, BaseException))
    assert isinstance(error, BackendError)
    assert error.code == "CONSTRAINT"
    assert isinstance(error.__cause__, sqlite3.IntegrityError)
    # Of the failing one neither half is there.
    assert numbers(path) == [5, 6, 7, 8, 9, 105, 106, 108, 109]
    # Tried without savepoints, undone, and run once more with one around each.
    assert trace.count("ROLLBACK") == 1
    assert trace.count("SAVEPOINT one") == 5
    assert trace.count("RELEASE one") == 5
    assert trace.count("ROLLBACK TO one") == 1


async def test_no_savepoints_while_all_goes_well(
    trace: Trace, database: Database, table: None
) -> None:
    await asyncio.gather(*(database.write(adding(n)) for n in range(20)))
    assert trace.count("SAVEPOINT one") == 0


async def test_a_domain_error_is_a_result(
    trace: Trace, database: Database, table: None, path: Path
) -> None:
    def refuse(session: Session) -> int:
        raise EntityConflictError("no")

    async with Held(database):
        trace.clear()
        writers = [
            asyncio.create_task(database.write(refuse if n == 2 else adding(n))) for n in range(5)
        ]
    results = await asyncio.gather(*writers, return_exceptions=True)
    assert [type(result) for result in results] == [int, int, EntityConflictError, int, int]
    assert numbers(path) == [0, 1, 3, 4]
    assert trace.count("ROLLBACK") == 0
    assert trace.count("BEGIN IMMEDIATE") == 1


@pytest.mark.parametrize(
    "error", [ValueError("no such value"), OverflowError("too large"), KeyError("missing")]
)
async def test_any_other_error_leaves_the_neighbours_alone(
    database: Database, table: None, path: Path, error: Exception
) -> None:
    """Python's own errors reach a batch too: sqlite3 raises OverflowError and UnicodeEncodeError
    for values that it cannot bind."""

    def fail(session: Session) -> int:
        adding(50)(session)
        raise error

    async with Held(database):
        writers = [
            asyncio.create_task(database.write(fail if n == 2 else adding(n))) for n in range(5)
        ]
    results = await asyncio.gather(*writers, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [2]
    assert numbers(path) == [0, 1, 3, 4]


async def test_a_value_that_cannot_be_bound_is_one_callers_error(world: World) -> None:
    """A lone surrogate is text for Python and none for a database."""
    database = world.backend.database  # type: ignore[attr-defined]
    async with Held(database):
        bad = asyncio.create_task(world.queue(QUEUE, {}, deployment_id="\ud800"))
        good = [asyncio.create_task(world.queue(QUEUE, {"n": n})) for n in range(5)]
    results = await asyncio.gather(bad, *good, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [str] * 5
    assert isinstance(results[0], WorldError)


async def test_a_commit_that_fails_writes_nothing_and_the_lane_goes_on(
    database: Database, table: None, path: Path
) -> None:
    def fail(point: str) -> None:
        if point == "before commit":
            raise sqlite3.OperationalError("disk I/O error")

    with faults.armed(fail), pytest.raises(BackendError, match="disk I/O error"):
        await database.write(adding(1))
    assert numbers(path) == []
    assert await database.write(adding(2)) == 1
    assert numbers(path) == [2]


async def test_a_batch_whose_commit_failed_runs_once_more(
    database: Database, table: None, path: Path
) -> None:
    commits: list[str] = []

    def fail_the_second(point: str) -> None:
        if point == "before commit":
            commits.append(point)
            if len(commits) == 2:  # the first is that of the batch which holds the lane
                raise sqlite3.OperationalError("disk I/O error")

    with faults.armed(fail_the_second):
        async with Held(database):
            writers = [asyncio.create_task(database.write(adding(n))) for n in range(5)]
        assert await asyncio.gather(*writers) == [1] * 5
    assert len(commits) >= 2
    assert numbers(path) == [0, 1, 2, 3, 4]


async def test_a_committed_batch_is_never_run_again(database: Database, path: Path) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE scratch (n INTEGER)")
    reached: list[str] = []

    def fail_once(point: str) -> None:
        if point == "after commit" and numbers(path):
            reached.append(point)
            if len(reached) == 1:
                raise RuntimeError("the process is in trouble")

    with faults.armed(fail_once):
        async with Held(database):
            writers = [asyncio.create_task(database.write(adding(n))) for n in range(3)]
        await asyncio.gather(*writers, return_exceptions=True)
    assert reached
    assert numbers(path) == [0, 1, 2]


# --- callers ---------------------------------------------------------------------------------


async def test_a_cancelled_caller_leaves_all_or_nothing(
    database: Database, table: None, path: Path
) -> None:
    async with Held(database):
        writers = [asyncio.create_task(database.write(adding(n, 100 + n))) for n in range(10)]
        await asyncio.sleep(0)
        for writer in writers[::2]:
            writer.cancel()
    results = await asyncio.gather(*writers, return_exceptions=True)
    assert results[1::2] == [2] * 5
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    found = set(numbers(path))
    assert found >= {1, 3, 5, 7, 9}
    assert all((n in found) == (100 + n in found) for n in range(10))


async def test_threads_write_through_the_same_lane(
    database: Database, table: None, path: Path
) -> None:
    threads = (asyncio.to_thread(database.write_blocking, adding(n)) for n in range(30))
    assert await asyncio.gather(*threads) == [1] * 30
    assert numbers(path) == list(range(30))


async def test_an_error_reaches_a_thread_too(database: Database, table: None) -> None:
    await database.write(adding(1))
    with pytest.raises(BackendError):
        await asyncio.to_thread(database.write_blocking, adding(1))


async def test_several_event_loops_share_the_lane(
    database: Database, table: None, path: Path
) -> None:
    async def some(first: int) -> list[int]:
        return await asyncio.gather(*(database.write(adding(first + n)) for n in range(25)))

    def loop(first: int) -> list[int]:
        return asyncio.run(some(first))

    loops = [asyncio.to_thread(loop, 100 * n) for n in range(4)]
    results = await asyncio.gather(*loops, some(1000))
    assert results == [[1] * 25] * 5
    assert len(numbers(path)) == 125


async def test_a_loop_that_is_gone_holds_nobody_up(
    database: Database, table: None, path: Path
) -> None:
    def leave() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(database.write(adding(1)))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    async with Held(database):
        await asyncio.to_thread(leave)
        writer = asyncio.create_task(database.write(adding(2)))
    assert await within_patience(writer) == 1
    assert 2 in numbers(path)


# --- the end ---------------------------------------------------------------------------------


async def test_close_waits_for_what_was_submitted(url: str, path: Path) -> None:
    backend = open_backend(url, environ={}, shared=False)
    await backend.open()
    scratch(path)
    database = backend.database
    entered, gate = threading.Event(), threading.Event()

    def slow(session: Session) -> int:
        entered.set()
        assert gate.wait(30)
        return adding(1)(session)

    writers = [asyncio.create_task(asyncio.to_thread(database.write_blocking, slow))]
    await asyncio.to_thread(entered.wait, 30)
    writers += [asyncio.create_task(database.write(adding(n))) for n in (2, 3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    gate.set()
    assert await within_patience(asyncio.gather(*writers)) == [1, 1, 1]
    await within_patience(closing)
    assert numbers(path) == [1, 2, 3]


async def test_a_write_that_comes_while_the_lane_closes_holds_nothing_up(
    url: str, path: Path
) -> None:
    """Plain threads, for a close that never returns must not hang the test too."""
    backend = open_backend(url, environ={}, shared=False)
    await backend.open()
    scratch(path)
    database = backend.database
    entered, gate, late = threading.Event(), threading.Event(), list[object]()

    def slow(session: Session) -> int:
        entered.set()
        gate.wait(30)
        return adding(1)(session)

    def write_late() -> None:
        try:
            late.append(database.write_blocking(adding(2)))
        except WorldError as error:
            late.append(error)

    threads = [
        threading.Thread(target=target, args=arguments, daemon=True)
        for target, arguments in (
            (database.write_blocking, (slow,)),
            (database.close, ()),
            (write_late, ()),
        )
    ]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
        thread.join(0.5)  # it cannot end yet, but comes to where it waits
    gate.set()
    for thread in threads:
        thread.join(10)
    assert [thread.is_alive() for thread in threads] == [False] * 3
    assert len(late) == 1
    assert numbers(path) == ([1, 2] if late == [1] else [1])


async def use_after_close(act: Callable[[Database], object], url: str) -> None:
    backend = open_backend(url, environ={}, shared=False)
    await backend.open()
    await backend.close()
    for _ in range(3):
        with pytest.raises(WorldError):
            await within_patience(act(backend.database))  # type: ignore[arg-type]


async def test_a_write_after_close_is_refused_every_time(url: str, path: Path) -> None:
    """It must not wait for ever for a thread that is gone."""
    await use_after_close(lambda database: database.write(lambda session: 1), url)


async def test_a_read_after_close_is_refused(url: str, path: Path) -> None:
    await use_after_close(lambda database: database.read(lambda session: 1), url)


async def test_a_write_that_races_the_close_is_stored_or_refused(
    make_world: MakeWorld, path: Path
) -> None:
    world = make_world()
    await create_run(world, "wrun_first")
    writers = [asyncio.create_task(create_run(world, f"wrun_{n}")) for n in range(30)]
    await asyncio.sleep(0)
    await world.close()
    results = await within_patience(asyncio.gather(*writers, return_exceptions=True))
    stored = [n for n, result in enumerate(results) if result is None]
    assert all(result is None or isinstance(result, WorldError) for result in results), results
    found = {row[0] for row in rows(path, "SELECT run_id FROM workflow_runs")}
    assert found == {"wrun_first", *(f"wrun_{n}" for n in stored)}


async def test_a_connection_that_cannot_roll_back_keeps_nobody_out(
    database: Database, path: Path
) -> None:
    scratch(path)
    await database.write(adding(1))

    def allow(action: int, word: str | None, *_: object) -> int:
        is_denied = action == sqlite3.SQLITE_TRANSACTION and word == "ROLLBACK"
        return sqlite3.SQLITE_DENY if is_denied else sqlite3.SQLITE_OK

    database.writer._connection.driver_connection.set_authorizer(allow)  # type: ignore[attr-defined]

    def failing(session: Session) -> None:
        adding(2)(session)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(BackendError, match="disk I/O error"):
        await database.write(failing)
    with raw(path) as rival:
        rival.execute("BEGIN IMMEDIATE")
        rival.execute("ROLLBACK")
    assert await database.write(adding(3)) == 1
    assert numbers(path) == [1, 3]
