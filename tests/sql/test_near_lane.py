"""Where a batch runs: on the event loop's own thread while that is quick, else on the lane's."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from workflow_world import faults
from workflow_world.errors import BackendError, WorldClosedError
from workflow_world.sql import open_backend
from workflow_world.sql.compiled import Session
from workflow_world.sql.database import Database
from workflow_world.sql.near_lane import (
    LONG_WAIT_S,
    LONGEST_PAUSE,
    MOST_AT_ONCE,
    NearLane,
    Throttle,
)

from .helpers import Held, Trace, adding, numbers, raw, scratch, within_patience

pytestmark = pytest.mark.anyio

WRITER = "workflow-world-writer-0"


@pytest.fixture
def table(database: Database, path: Path) -> None:
    scratch(path)


@pytest.fixture
async def near(database: Database, table: None, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Its connection is made, and the disk is quick, whatever else the machine does."""
    monkeypatch.setattr(Throttle, "took", lambda throttle, seconds: None)
    await asyncio.to_thread(database.write_blocking, lambda session: None)
    rest(database)
    return database


def lane_of(database: Database) -> NearLane:
    lane = database._writes  # type: ignore[attr-defined]
    assert isinstance(lane, NearLane)
    return lane


def rest(database: Database) -> None:
    """Returns when the lane's thread has nothing to do: it answers a little before."""
    with lane_of(database)._working:
        return


def place(*numbers: int) -> Callable[[Session], str]:
    """An operation that stores numbers and says on which thread it did."""

    def operation(session: Session) -> str:
        adding(*numbers)(session)
        return threading.current_thread().name

    return operation


async def test_one_turn_is_one_transaction_on_the_loops_thread(
    trace: Trace, near: Database, path: Path
) -> None:
    trace.clear()
    here = threading.current_thread().name
    assert await asyncio.gather(*(near.write(place(n)) for n in range(30))) == [here] * 30
    assert trace.count("BEGIN IMMEDIATE") == trace.count("COMMIT") == 1
    assert numbers(path) == list(range(30))


async def test_what_the_thread_makes_first_the_loop_does_not_connect(
    database: Database, table: None
) -> None:
    """To open a file may take long."""
    assert await database.write(place(1)) == WRITER


async def test_many_at_once_are_the_threads(near: Database, path: Path) -> None:
    many = MOST_AT_ONCE + 1
    assert await asyncio.gather(*(near.write(place(n)) for n in range(many))) == [WRITER] * many
    assert numbers(path) == list(range(many))


async def test_who_comes_later_does_not_overtake(near: Database, path: Path) -> None:
    order: list[int] = []

    def noting(number: int) -> Callable[[Session], None]:
        return lambda session: order.append(number)

    async with Held(near):
        waiting = [asyncio.create_task(near.write(noting(n))) for n in range(3)]
        await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(near.write(noting(3))))
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3]


async def test_the_loop_goes_on_while_another_process_holds_the_lock(
    near: Database, path: Path
) -> None:
    with raw(path) as rival:
        rival.execute("BEGIN IMMEDIATE")
        writer = asyncio.create_task(near.write(place(1)))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not writer.done()
        rival.execute("ROLLBACK")
    assert await within_patience(writer) == WRITER
    assert numbers(path) == [1]


async def test_a_failure_is_undone_and_left_to_the_thread(
    trace: Trace, near: Database, path: Path
) -> None:
    await near.write(adding(7))
    trace.clear()
    results = await asyncio.gather(
        *(near.write(adding(100 + n, n)) for n in range(5, 10)), return_exceptions=True
    )
    (error,) = (result for result in results if isinstance(result, BaseException))
    assert isinstance(error, BackendError)
    assert isinstance(error.__cause__, sqlite3.IntegrityError)
    assert numbers(path) == [5, 6, 7, 8, 9, 105, 106, 108, 109]
    assert trace.count("ROLLBACK TO one") == 1


async def test_a_committed_batch_is_never_run_again(near: Database, path: Path) -> None:
    def fail(point: str) -> None:
        if point == "after commit":
            raise RuntimeError("the process is in trouble")

    with faults.armed(fail):
        writers = [near.write(adding(n)) for n in range(3)]
        results = await asyncio.gather(*writers, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError] * 3
    assert numbers(path) == [0, 1, 2]


@pytest.mark.parametrize(("point", "stored"), [("before commit", []), ("after commit", [1])])
def test_an_interrupted_batch_is_whole_and_its_outcome_unknown(
    url: str, path: Path, point: str, stored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's handler may raise at any place."""
    monkeypatch.setattr(Throttle, "took", lambda throttle, seconds: None)
    backend = open_backend(url, environ={}, shared=False)

    def interrupt(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    async def opened() -> None:
        await backend.open()
        await asyncio.to_thread(backend.database.write_blocking, lambda session: None)

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(opened())
        scratch(path)
        writer = loop.create_task(backend.database.write(adding(1)))
        with faults.armed(interrupt), pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(writer)
        with pytest.raises(BackendError) as unknown:
            loop.run_until_complete(writer)
        assert unknown.value.code == "UNKNOWN_OUTCOME"
        assert loop.run_until_complete(backend.database.write(adding(2))) == 1
        loop.run_until_complete(backend.close())
        loop.run_until_complete(loop.shutdown_default_executor())
    assert numbers(path) == [*stored, 2]


@pytest.mark.parametrize("unhurried", [False, True])
async def test_a_turn_that_races_the_close_is_stored_or_refused(
    url: str, path: Path, unhurried: bool
) -> None:
    backend = open_backend(url, environ={}, shared=False)
    await backend.open()
    scratch(path)
    writers = [
        asyncio.create_task(backend.database.write(adding(n), unhurried=unhurried))
        for n in range(5)
    ]
    await asyncio.sleep(0)  # they are in the turn, which has not ended
    await within_patience(backend.close())
    results = await within_patience(asyncio.gather(*writers, return_exceptions=True))
    stored = [n for n, result in enumerate(results) if result == 1]
    assert all(result == 1 or isinstance(result, WorldClosedError) for result in results)
    assert numbers(path) == stored


async def test_what_is_in_no_hurry_shares_the_next_transaction(
    trace: Trace, near: Database, path: Path
) -> None:
    trace.clear()
    unhurried = asyncio.create_task(near.write(place(1), unhurried=True))
    await asyncio.sleep(0)  # it is in a turn that waits
    here = await near.write(place(2))
    assert await within_patience(unhurried) == here == threading.current_thread().name
    assert trace.count("BEGIN IMMEDIATE") == trace.count("COMMIT") == 1
    assert numbers(path) == [1, 2]


async def test_what_is_in_no_hurry_does_not_wait_for_ever(near: Database, path: Path) -> None:
    writers = (near.write(place(n), unhurried=True) for n in range(2))
    assert await within_patience(asyncio.gather(*writers))
    assert numbers(path) == [0, 1]


async def test_between_two_batches_is_not_while_one_runs(near: Database) -> None:
    lane = lane_of(near)
    async with Held(near):
        assert not lane.between(lambda: True)
    rest(near)
    assert lane.between(lambda: True)


async def test_what_a_loop_left_behind_is_written_with_another_ones(
    near: Database, path: Path
) -> None:
    """Its loop ended before the moment was over that it may wait."""

    async def leaving() -> None:
        asyncio.create_task(near.write(place(1), unhurried=True))  # noqa: RUF006
        await asyncio.sleep(0)

    def elsewhere() -> None:
        with closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(leaving())

    await asyncio.to_thread(elsewhere)
    await near.write(place(2))
    await asyncio.to_thread(near.write_blocking, place(3))
    assert numbers(path) == [1, 2, 3]


# --- the throttle ------------------------------------------------------------------------


def outcome(throttle: Throttle, waits: list[float]) -> list[bool]:
    allowed = []
    for seconds in waits:
        allowed.append(throttle.allows())
        if allowed[-1]:
            throttle.took(seconds)
    return allowed


def test_a_quick_disk_never_pauses() -> None:
    assert all(outcome(Throttle(), [LONG_WAIT_S / 2] * 1000))


def test_one_long_wait_is_no_slow_disk() -> None:
    assert all(outcome(Throttle(), [0.0003, 5.0, *[0.0003] * 100]))


def test_a_slow_disk_holds_up_one_batch_in_hundreds() -> None:
    allowed = outcome(Throttle(), [0.02] * 20_000)
    assert sum(allowed) < 20 + 20_000 / LONGEST_PAUSE
    assert sum(allowed[-LONGEST_PAUSE - 1 :]) >= 1, "but it is tried again"


def test_a_disk_that_is_quick_again_is_forgiven() -> None:
    throttle = Throttle()
    outcome(throttle, [0.02] * 1000)
    allowed = outcome(throttle, [0.0003] * 1000)
    assert all(allowed[LONGEST_PAUSE + 1 :])
