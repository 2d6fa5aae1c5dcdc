"""The order of the log (B093 to B096)."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Final

import pytest

from ...core.entities import Event
from ...core.ulid import RANDOM_BITS, encode_ulid
from ...core.values import to_ms
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld, Plant
from .helpers import (
    CREATION,
    RUN,
    a_run,
    all_events,
    an_event,
    create_hook,
    create_run,
    create_step,
    create_wait,
    end_run,
    planting_run,
    receive,
    send,
    send_sample,
    start_run,
    start_step,
    state_of,
    taking_turns,
)
from .replay import check_log, replayed

HOUR: Final = 3600.0


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
@pytest.mark.parametrize("ahead", [0, 1, 3_600_000])
async def test_b094_event_ids_rise_behind_a_foreign_id(
    world: World, plant: Plant, clock: ManualClock, ahead: int
) -> None:
    """New event ids are above a stored one that is the highest of its millisecond, or that was
    minted by a clock far ahead."""
    foreign = f"evnt_{encode_ulid(to_ms(START) + ahead, (1 << RANDOM_BITS) - 1)}"
    created = an_event(1, "run_created", event_data=dict(CREATION), event_id=foreign)
    await plant(RUN, planting_run(a_run(status="pending"), created))
    await send(world, RUN, "run_started")
    for number in range(3):
        await create_step(world, RUN, f"step_{number}")
        clock.advance(0.001)
    events = await all_events(world)
    assert len(events) == 5
    check_log(events)


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
    _, *followed = await asyncio.gather(write_together(taking_turns(world, rival), 8), *readers)
    events = await all_events(world)
    check_log(events)
    assert len(events) == total
    for seen in followed:
        assert seen == events
