"""Lazy opening, sharing and closing (B186 to B188, B190, B202)."""

# ruff: noqa: ASYNC240  # looking at a few local files holds nobody up

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from workflow_world import World, create_world
from workflow_world.errors import BackendError, WorldClosedError
from workflow_world.sql import SqlBackend, open_backend
from workflow_world.sql.database import Database
from workflow_world.testing import ManualClock

from .conftest import MakeWorld, Spawn, ours
from .helpers import (
    PATIENCE_S,
    PREFIX,
    QUEUE,
    TABLES,
    Trace,
    count,
    create_run,
    creation,
    rows,
    within_patience,
)

pytestmark = pytest.mark.anyio


async def nothing(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
    """A handler."""


# --- lazy ------------------------------------------------------------------------------------


async def test_creating_a_world_does_no_io(
    trace: Trace, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world()
    world.create_queue_handler(PREFIX, nothing)
    assert world.backend.capabilities.name == "sqlite"
    await world.get_deployment_id()
    assert list(tmp_path.iterdir()) == []
    assert trace.connections == []
    assert ours() == set()


async def test_closing_an_unused_world_does_no_io(
    trace: Trace, make_world: MakeWorld, tmp_path: Path
) -> None:
    await make_world().close()
    assert list(tmp_path.iterdir()) == []
    assert trace.connections == []


def test_creating_needs_no_event_loop_and_no_database(tmp_path: Path) -> None:
    world = create_world(f"file:{tmp_path / 'nowhere' / 'w.db'}")
    world.create_queue_handler(PREFIX, nothing)
    asyncio.run(world.close())


async def test_a_relative_path_is_meant_from_where_the_world_was_created(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    world = make_world("file:here.db")
    monkeypatch.chdir(tmp_path)
    await create_run(world, "wrun_1")
    assert (tmp_path / "one" / "here.db").is_file()
    assert not (tmp_path / "here.db").exists()


async def test_the_first_use_creates_the_schema(world: World, path: Path) -> None:
    names = {row[0] for row in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {*TABLES, "workflow_world_version"}


async def test_twenty_first_uses_at_once_initialise_once(
    trace: Trace, make_world: MakeWorld
) -> None:
    world = make_world()
    await asyncio.gather(*(create_run(world, f"wrun_{n}") for n in range(20)))
    assert trace.count("CREATE TABLE workflow_runs") == 1
    # Even the check of the version happened once.
    assert trace.count("SELECT workflow_world_version") <= 2
    assert len((await world.runs.list()).data) == 20


async def test_first_uses_on_several_event_loops_initialise_once(
    trace: Trace, make_world: MakeWorld
) -> None:
    world = make_world()
    together = threading.Barrier(6)

    def first(number: int) -> None:
        together.wait(30)
        asyncio.run(create_run(world, f"wrun_{number}"))

    await asyncio.gather(*(asyncio.to_thread(first, number) for number in range(6)))
    assert trace.count("CREATE TABLE workflow_runs") == 1
    assert len((await world.runs.list()).data) == 6


async def test_opening_again_costs_nothing(trace: Trace, world: World) -> None:
    trace.clear()
    for _ in range(5):
        await world.backend.open()
    assert trace.heads == []


async def test_a_failed_first_use_is_tried_again_by_the_next(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    world = make_world(f"file:{folder / 'w.db'}")
    for _ in range(2):
        results = await asyncio.gather(
            *(world.runs.list() for _ in range(20)), return_exceptions=True
        )
        assert [type(result) for result in results] == [BackendError] * 20
        assert "does not exist" in str(results[0])
    folder.mkdir()
    await create_run(world, "wrun_1")
    assert count(folder / "w.db", "workflow_runs") == 1


async def test_a_failed_start_of_the_worker_can_be_tried_again(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    folder, delivered = tmp_path / "later", asyncio.Event()

    async def handler(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
        delivered.set()

    world = make_world(f"file:{folder / 'w.db'}")
    world.create_queue_handler(PREFIX, handler)
    with pytest.raises(BackendError):
        await world.start()
    folder.mkdir()
    await world.start()
    await world.queue(QUEUE, {})
    await within_patience(delivered.wait())


@pytest.mark.timeout(240)
async def test_eight_processes_open_one_fresh_file_at_once(
    spawn: Spawn, url: str, path: Path
) -> None:
    children = [spawn("open", url) for _ in range(8)]
    for child in children:
        assert child.line() == "ready"
    assert not path.exists()
    for child in children:
        child.go()
    assert [child.end() for child in children] == ["0\n"] * 8
    assert rows(path, "SELECT version_num FROM workflow_world_version") == [("0001",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# --- sharing ---------------------------------------------------------------------------------


async def test_two_worlds_with_one_url_share_a_pool(
    trace: Trace, make_world: MakeWorld, url: str
) -> None:
    one, two = make_world(), make_world()
    await create_run(one, "wrun_1")
    await one.runs.list()
    before = len(trace.connections)
    await create_run(two, "wrun_2")
    assert one.backend.database is two.backend.database  # type: ignore[attr-defined]
    # Readers appear one by one; the writer is there.
    assert len(trace.connections) <= before + 1
    assert trace.count("CREATE TABLE workflow_runs") == 1


async def test_closing_one_keeps_the_other_working(make_world: MakeWorld) -> None:
    one, two = make_world(), make_world()
    await create_run(one, "wrun_1")
    await one.close()
    with pytest.raises(WorldClosedError):
        await one.runs.list()
    await create_run(two, "wrun_2")
    assert len((await two.runs.list()).data) == 2


async def test_closing_twice_gives_back_one_share_only(make_world: MakeWorld) -> None:
    one, two = make_world(), make_world()
    await create_run(one, "wrun_1")
    await asyncio.gather(one.close(), one.close())
    await one.close()
    await create_run(two, "wrun_2")


async def test_the_last_close_ends_the_pool_and_a_new_world_opens_another(
    trace: Trace, make_world: MakeWorld
) -> None:
    one, two = make_world(), make_world()
    await create_run(one, "wrun_1")
    await one.close()
    assert ours() != set()
    await two.close()
    assert ours() == set()
    first = len(trace.connections)
    three = make_world()
    assert len((await three.runs.list()).data) == 1
    assert len(trace.connections) > first
    for connection in trace.connections[:first]:
        with pytest.raises(Exception, match="closed database"):
            connection.execute("SELECT 1")


@pytest.mark.parametrize(
    "options",
    [{"synchronous": "normal"}, {"table_prefix": "x_"}, {"clock": ManualClock()}],
    ids=["synchronous", "table_prefix", "clock"],
)
async def test_different_options_do_not_share(
    make_world: MakeWorld, options: dict[str, object]
) -> None:
    one, two = make_world(), make_world(**options)
    assert one.backend.database is not two.backend.database  # type: ignore[attr-defined]


async def test_memory_databases_are_never_shared(make_world: MakeWorld) -> None:
    one, two = make_world(":memory:"), make_world(":memory:")
    await create_run(one, "wrun_1")
    assert len((await one.runs.list()).data) == 1
    assert len((await two.runs.list()).data) == 0


async def test_close_leaves_one_file(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    await world.close()
    # The last connection moves the log into the database.
    assert [path.name for path in tmp_path.iterdir()] == ["w.db"]


# --- use after close -------------------------------------------------------------------------

USES: dict[str, Callable[[World], Awaitable[object]]] = {
    "events.create": lambda world: world.events.create("wrun_1", creation()),
    "events.list": lambda world: world.events.list("wrun_1"),
    "runs.get": lambda world: world.runs.get("wrun_1"),
    "runs.get_many": lambda world: world.runs.get_many(["wrun_1"]),
    "runs.list": lambda world: world.runs.list(),
    "runs.wait": lambda world: world.runs.wait("wrun_1", 1),
    "steps.list": lambda world: world.steps.list("wrun_1"),
    "hooks.list": lambda world: world.hooks.list(),
    "hooks.get_by_token": lambda world: world.hooks.get_by_token("t"),
    "queue": lambda world: world.queue(QUEUE, {}),
    "messages.stats": lambda world: world.messages.stats(),
    "messages.list": lambda world: world.messages.list(),
    "streams.write": lambda world: world.streams.write("wrun_1", "s", b"x"),
    "streams.get_chunks": lambda world: world.streams.get_chunks("wrun_1", "s"),
    "streams.list": lambda world: world.streams.list("wrun_1"),
    "start": lambda world: world.start(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize("opened", [True, False], ids=["used", "unused"])
async def test_use_after_close(
    make_world: MakeWorld,
    tmp_path: Path,
    use: Callable[[World], Awaitable[object]],
    opened: bool,
) -> None:
    world = make_world()
    if opened:
        await create_run(world, "wrun_1")
    await world.close()
    files = sorted(tmp_path.iterdir())
    for _ in range(2):
        with pytest.raises(WorldClosedError):
            await within_patience(use(world))
    assert sorted(tmp_path.iterdir()) == files
    assert ours() == set()


async def test_a_handle_that_is_collected_while_another_is_made(tmp_path: Path) -> None:
    """The collector runs at any instant, in the middle of the counting too: it waits for nothing,
    and the count is right soon."""
    url = f"file:{tmp_path / 'w.db'}"
    kept = open_backend(url, environ={})
    circle: list[object] = [open_backend(url, environ={})]
    circle.append(circle)
    del circle

    def make() -> Database:
        gc.collect()
        return kept.database

    other = SqlBackend(make, "another key")
    await kept.open()
    await kept.close()
    async with asyncio.timeout(PATIENCE_S):
        while kept.database.is_open:  # noqa: ASYNC110  # a thread makes it so
            await asyncio.sleep(0.01)
    await other.close()
