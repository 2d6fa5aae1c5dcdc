"""A process that dies between two requests leaves nothing of its entry, or all of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from workflow_world import World
from workflow_world.backend import Retention
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.testing import ManualClock

from .conftest import MakeWorld, Spawn
from .helpers import Stored, create_run, event, log_of

TOKEN = "t"  # noqa: S105

pytestmark = pytest.mark.anyio

AFTER = ["after commit", "before events", "before hooks", "before runs", "before applied"]
CHUNKS = 6
LONG = Retention(completed=timedelta(days=9), failed=timedelta(days=9))


@pytest.fixture
async def begun(world: World) -> World:
    """A run with a hook."""
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("hook_created", "hook_1", token=TOKEN))
    return world


async def assert_ended(world: World) -> None:
    assert (await world.runs.get("wrun_1")).status == "completed"
    kinds = [kind for kind, _ in await log_of(world, "wrun_1")]
    assert kinds == ["run_created", "hook_created", "run_completed"]
    assert not (await world.hooks.list("wrun_1")).data


async def test_before_the_commit_there_is_nothing(
    begun: World, spawn: Spawn, url: str, stored: Stored
) -> None:
    before = stored.everything(), stored.journal
    spawn("die", url, "end_run", "before commit", "1").dies()
    assert (stored.everything(), stored.journal) == before
    assert (await begun.runs.get("wrun_1")).status == "pending"
    await begun.events.create("wrun_1", event("run_completed", output=b"out"))
    await assert_ended(begun)


@pytest.mark.parametrize("point", AFTER)
async def test_the_next_reader_ends_what_was_committed(
    begun: World, make_world: MakeWorld, spawn: Spawn, url: str, stored: Stored, point: str
) -> None:
    spawn("die", url, "end_run", point, "1").dies()
    assert stored.journal["applied"] < stored.journal["number"]
    await assert_ended(make_world())
    assert stored.journal["applied"] == stored.journal["number"]
    await assert_ended(begun)


@pytest.mark.parametrize("point", AFTER)
async def test_the_next_writer_ends_what_was_committed(
    begun: World, spawn: Spawn, url: str, stored: Stored, point: str
) -> None:
    """One that believes its own entry to be the last, and would write the same again."""
    spawn("die", url, "end_run", point, "1").dies()
    await create_run(begun, "wrun_2")
    assert stored["runs"].find_one({"_id": "wrun_1"})["status"] == "completed"
    await assert_ended(begun)


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("after commit", "1"),
        ("before stream_chunks", "1"),
        ("before stream_chunks", "2"),
        ("before stream_chunks", "3"),
        ("before applied", "1"),
    ],
)
async def test_an_entry_of_several_parts(
    begun: World, spawn: Spawn, url: str, stored: Stored, point: str, nth: str
) -> None:
    spawn("die", url, "large", point, nth).dies()
    assert stored.parts > 1
    await assert_all_chunks(begun)
    assert stored.parts == 0


async def assert_all_chunks(world: World) -> None:
    info = await world.streams.get_info("wrun_1", "out")
    assert info.tail_index == CHUNKS - 1
    for number in range(CHUNKS):
        page, _ = await world.backend.chunks.page(
            "wrun_1", "out", start=number, limit=1, max_bytes=None
        )
        assert [chunk.data[:1] for chunk in page] == [bytes([number])]


async def test_parts_without_a_commit_go_after_a_day(
    make_world: MakeWorld, spawn: Spawn, url: str, stored: Stored
) -> None:
    clock = ManualClock(SYSTEM_CLOCK.now())
    world = make_world(clock=clock)
    await create_run(world, "wrun_1")
    spawn("die", url, "large", "before commit", "1").dies()
    assert stored.parts > 1
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == -1
    for hours, left in ((23, True), (2, False)):
        clock.advance(hours * 3600)
        await world.backend.messages.prune(LONG, limit=10)
        assert bool(stored.parts) == left
    await world.streams.write("wrun_1", "out", b"x")
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == 0
