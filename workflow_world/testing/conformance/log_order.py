"""The order of the log, and that a write is atomic whatever happens (B093 to B099)."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pytest

from ... import faults
from ...core.entities import Event
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .helpers import (
    CREATION,
    RUN,
    State,
    all_events,
    create_hook,
    create_run,
    create_step,
    create_wait,
    end_run,
    need,
    receive,
    row,
    send,
    send_sample,
    set_attributes,
    start_run,
    start_step,
    state_of,
    taking_turns,
)
from .replay import check_log, replayed

HOUR: Final = 3600.0
KILLS: Final = 5


@dataclass(frozen=True, slots=True)
class Written:
    """An event, and when its write began and returned, counted over all writers."""

    event: Event
    began: int
    returned: int


async def write_together(worlds: list[World], each: int) -> list[list[Written]]:
    """Every world's writer appends ``each`` events to one run, one after another."""
    ticks = itertools.count()

    async def write(world: World, number: int) -> list[Written]:
        done: list[Written] = []
        for turn in range(each):
            began = next(ticks)
            event = await receive(world, payload=[number, turn])
            done.append(Written(event, began, next(ticks)))
        return done

    return await asyncio.gather(*(write(one, number) for number, one in enumerate(worlds)))


@pytest.mark.anyio
async def test_b093_list_order_is_commit_order(world: World, rival: World) -> None:
    """Positions are dense and list order is commit order, under 8 writers in two Worlds."""
    await start_run(world)
    await create_hook(world)
    written = await write_together(taking_turns(world, rival), 6)
    events = await all_events(world)
    check_log(events)
    assert len(events) == 3 + 8 * 6
    assert await all_events(rival) == events
    by_position = sorted(itertools.chain(*written), key=lambda one: one.event.position)
    assert [one.event for one in by_position] == events[3:]
    for index, later in enumerate(by_position):
        # What stands before it in the log did not begin after it had returned.
        assert all(earlier.began < later.returned for earlier in by_position[:index])
    for own in written:
        positions = [one.event.position for one in own]
        assert positions == sorted(positions)


@pytest.mark.anyio
async def test_b094_event_ids_rise_with_a_clock_behind(
    world: World, make_world: MakeWorld, clock: ManualClock
) -> None:
    """Event ids strictly increase in list order even when one World's clock is 1 hour behind."""
    behind, ahead = ManualClock(), ManualClock()
    behind.advance(-HOUR)
    ahead.advance(HOUR)
    worlds = [make_world(clock=one) for one in (ahead, behind)] + [world]
    await start_run(world)
    await create_hook(world)
    for turn in range(12):
        await receive(worlds[turn % 3], payload=turn)
        clock.advance(0.001)
        behind.advance(0.5)
    await write_together(worlds * 3, 3)
    events = await all_events(world)
    assert len(events) == 3 + 12 + 27
    check_log(events)
    assert await all_events(worlds[1]) == events


@pytest.mark.anyio
async def test_b095_created_at_never_decreases(
    world: World, make_world: MakeWorld, clock: ManualClock
) -> None:
    """created_at never decreases in list order, and no row's times go back with a clock."""
    behind = make_world(clock=(late := ManualClock()))
    late.advance(-HOUR)
    await create_run(world)
    clock.advance(10)
    await send(behind, RUN, "run_started")
    await create_step(behind)
    await start_step(world)
    clock.advance(-2 * HOUR)
    await send_sample(world, RUN, "step_completed", "step_1")
    await create_wait(behind)
    await send(behind, RUN, "wait_completed", "wait_1")
    await end_run(world)
    events = await all_events(world)
    check_log(events)
    assert await state_of(world) == replayed(events)
    run, step = await world.runs.get(RUN), await world.steps.get(RUN, "step_1")
    assert run.started_at is not None
    assert run.completed_at is not None
    assert run.created_at <= run.started_at <= run.completed_at
    assert step.started_at is not None
    assert step.completed_at is not None
    assert step.created_at <= step.started_at <= step.completed_at


@pytest.mark.anyio
async def test_b096_a_polling_reader_misses_nothing(world: World, rival: World) -> None:
    """A reader polling with its cursor during writes sees every event once, none late."""
    await start_run(world)
    await create_hook(world)
    total = 3 + 8 * 8

    async def follow(reader: World, limit: int) -> list[Event]:
        seen: list[Event] = []
        cursor: str | None = None
        while len(seen) < total:
            page = await reader.events.list(RUN, cursor=cursor, limit=limit)
            seen.extend(page.data)
            cursor = page.cursor
            await asyncio.sleep(0)
        return seen

    readers = [follow(one, limit) for one in (world, rival) for limit in (1, 7, 1000)]
    _, *followed = await asyncio.gather(
        write_together(taking_turns(world, rival), 8), *readers
    )
    events = await all_events(world)
    check_log(events)
    assert len(events) == total
    for seen in followed:
        assert seen == events


async def _started(world: World) -> None:
    await start_run(world)


async def _furnished(world: World) -> None:
    """A run with a step in each live status, a hook with a payload, and a wait."""
    await start_run(world, attributes={"a": "1"})
    await create_step(world, RUN, "step_1")
    await create_step(world, RUN, "step_2")
    await start_step(world, RUN, "step_2")
    await create_hook(world)
    await receive(world, resume_id="earlier", digest="d")
    await create_wait(world)


async def _nothing(world: World) -> None:
    await world.backend.open()


Prepare = Callable[[World], Awaitable[None]]
Write = Callable[[World], Awaitable[object]]
WRITES: Final[Mapping[str, tuple[Prepare, Write, int]]] = MappingProxyType(
    {
        "run_created": (_nothing, lambda world: create_run(world), 1),
        "resilient start": (_nothing, lambda world: send(world, RUN, "run_started", **CREATION), 2),
        "attr_set": (_started, lambda world: set_attributes(world, "attr_1", ("k", "v")), 1),
        "step_created": (_started, lambda world: create_step(world), 1),
        "step_started": (_furnished, lambda world: start_step(world), 1),
        "step_retrying": (
            _furnished,
            lambda world: send_sample(world, RUN, "step_retrying", "step_2"),
            1,
        ),
        "step_completed": (
            _furnished,
            lambda world: send_sample(world, RUN, "step_completed", "step_2"),
            1,
        ),
        "hook_created": (_started, lambda world: create_hook(world), 1),
        "hook_conflict": (
            _furnished,
            lambda world: send(world, RUN, "hook_created", "hook_2", token="token"),
            1,
        ),
        "hook_received": (_furnished, lambda world: receive(world, resume_id="r", digest="d"), 1),
        "hook_disposed": (
            _furnished,
            lambda world: send(world, RUN, "hook_disposed", "hook_1"),
            1,
        ),
        "wait_created": (_started, lambda world: create_wait(world), 1),
        "wait_completed": (
            _furnished,
            lambda world: send(world, RUN, "wait_completed", "wait_1"),
            1,
        ),
        "run_completed": (_furnished, lambda world: end_run(world), 1),
        "run_cancelled": (_furnished, lambda world: end_run(world, RUN, "cancelled"), 1),
    }
)


class BrokenDatabase(Exception):
    """What an armed fault point raises."""


async def points_of(make_world: MakeWorld, prepare: Prepare, write: Write) -> list[str]:
    """The names of the fault points that this write reaches, in order, on a run of its own.

    The run is renamed away by ending: the caller prepares a fresh database per point instead.
    """
    world = make_world()
    await prepare(world)
    reached: list[str] = []
    with faults.armed(reached.append):
        await write(world)
    return reached


def sound(before: State, after: State, added: int) -> bool:
    """Whether the write happened completely. Fails unless that or nothing at all happened."""
    check_log(after.events)
    assert after == replayed(after.events)
    assert [*after.events][: len(before.events)] == [*before.events]
    if len(after.events) == len(before.events):
        assert after == before
        return False
    assert len(after.events) == len(before.events) + added
    return True
