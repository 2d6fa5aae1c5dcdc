"""Pages and cursors of every list (B103 to B108)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final

import pytest

from ...core.entities import Page
from ...errors import InvalidRequestError
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld, Plant
from .helpers import (
    CREATION,
    OTHER_RUN,
    RUN,
    a_run,
    an_event,
    create_hook,
    create_run,
    create_step,
    create_wait,
    planting_run,
    receive,
    send,
    start_run,
    walk,
)

COUNT: Final = 11
Read = Callable[..., Awaitable[Page[Any]]]


async def _fill(world: World, clock: ManualClock, step: float) -> None:
    """COUNT runs, and one of them with COUNT steps, hooks and waits, ``step`` seconds apart."""
    for number in range(COUNT - 1):
        await create_run(world, f"wrun_{number:02d}")
        clock.advance(step)
    await start_run(world)
    for number in range(COUNT):
        await create_step(world, RUN, f"step_{number:02d}")
        await create_hook(world, RUN, f"hook_{number:02d}", f"token {number}")
        await create_wait(world, RUN, f"wait_{number:02d}")
        clock.advance(step)
    for _ in range(COUNT - 1):
        await receive(world, RUN, "hook_00")


def lists(world: World) -> Mapping[str, Read]:
    """Every list that pages."""
    return {
        "runs": world.runs.list,
        "steps": partial(world.steps.list, RUN),
        "events": partial(world.events.list, RUN),
        "hooks": world.hooks.list,
        "hooks of a run": partial(world.hooks.list, RUN),
        "waits": world.waits.list,
        "waits of a run": partial(world.waits.list, RUN),
        "correlation": partial(world.events.list_by_correlation_id, "hook_00"),
        "correlation in a run": partial(world.events.list_by_correlation_id, "hook_00", run_id=RUN),
    }


LISTS: Final = (
    *("runs", "steps", "events", "hooks", "hooks of a run", "waits", "waits of a run"),
    *("correlation", "correlation in a run"),
)


@pytest.mark.anyio
@pytest.mark.parametrize("gap", [0, 0.001], ids=["one millisecond", "apart"])
async def test_b103_pages_join_to_the_whole(world: World, clock: ManualClock, gap: float) -> None:
    """Walking with limit 1, 2 and 7 yields every row once, in order, in every list."""
    await _fill(world, clock, gap)
    for name, read in lists(world).items():
        up = [*(await read(sort_order="asc")).data]
        assert len(up) == {"events": 2 + 4 * COUNT - 1}.get(name, COUNT), name
        down = [*(await read(sort_order="desc")).data]
        assert down == up[::-1], name
        assert [*(await read()).data] == (down if name in ("runs", "steps") else up), name
        for limit in (1, 2, 7):
            assert await walk(partial(read, sort_order="asc"), limit) == up, (name, limit)
            assert await walk(partial(read, sort_order="desc"), limit) == down, (name, limit)


@pytest.mark.anyio
async def test_b104_rows_of_one_millisecond(world: World) -> None:
    """50 rows created in the same millisecond page without loss."""
    await start_run(world)
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in range(49)))
    await asyncio.gather(*(create_step(world, RUN, f"step_{number}") for number in range(50)))
    await asyncio.gather(
        *(create_hook(world, RUN, f"hook_{number}", f"token {number}") for number in range(50))
    )
    expected = {"runs": 50, "steps": 50, "hooks": 50, "hooks of a run": 50, "events": 102}
    for name, count in expected.items():
        for limit in (3, 50, 1000):
            for order in ("asc", "desc"):
                rows = await walk(partial(lists(world)[name], sort_order=order), limit)
                assert len(rows) == count, (name, limit, order)
                assert len({repr(row) for row in rows}) == count, (name, limit, order)
    steps = await walk(partial(world.steps.list, RUN), 7)
    assert {step.created_at for step in steps} == {START}


@pytest.mark.anyio
@pytest.mark.parametrize("name", LISTS)
async def test_b105_has_more_is_exact(world: World, clock: ManualClock, name: str) -> None:
    """has_more is False exactly at the end; the cursor of a last page is None but for events."""
    await _fill(world, clock, 0.001)
    read = lists(world)[name]
    rows = [*(await read()).data]
    for limit in (len(rows) - 1, len(rows), len(rows) + 1, 1000):
        page = await read(limit=limit)
        assert page.has_more is (limit < len(rows))
        assert [*page.data] == rows[:limit]
    assert ((await read(limit=len(rows))).cursor is None) is (name != "events")
    before_last = await read(limit=len(rows) - 1)
    last = await read(limit=1, cursor=before_last.cursor)
    assert ([*last.data], last.has_more) == (rows[-1:], False)


@pytest.mark.anyio
async def test_b105_limits(world: World, plant: Plant) -> None:
    """A limit above 1000 clamps; 0, a negative one and None use the default."""
    rows = [
        an_event(1, "run_created", event_data=dict(CREATION)),
        *(an_event(position, "noop", correlation_id="c") for position in range(2, 1004)),
    ]
    await plant(RUN, planting_run(a_run(), *rows))
    for limit in (None, 0, -1, 1000, 1001, 10**9):
        page = await world.events.list(RUN, limit=limit)
        assert (len(page.data), page.has_more) == (1000, True), limit
        rest = await world.events.list(RUN, limit=limit, cursor=page.cursor)
        assert [*page.data, *rest.data] == rows
        assert rest.has_more is False
    for limit, size in ((None, 100), (0, 100), (-5, 100), (101, 101), (5000, 1000)):
        page = await world.events.list_by_correlation_id("c", limit=limit)
        assert (len(page.data), page.has_more) == (size, True), limit


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [2.5, "5", float("nan"), [1]])
async def test_limit_that_is_no_whole_number(world: World, limit: Any) -> None:
    """400, whatever the list."""
    readers: dict[str, Callable[..., Awaitable[object]]] = {
        **lists(world),
        "messages": world.messages.list,
    }
    for read in readers.values():
        with pytest.raises(InvalidRequestError):
            await read(limit=limit)
    with pytest.raises(InvalidRequestError):
        await world.streams.get_chunks(RUN, "out", limit=limit)


@pytest.mark.anyio
async def test_bound_beyond_the_calendar(world: World) -> None:
    """Times that are no time in UTC: 400."""
    late = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
    with pytest.raises(InvalidRequestError):
        await world.runs.list(created_after=late)
    with pytest.raises(InvalidRequestError):
        await world.runs.list(created_before=late)


@pytest.mark.anyio
async def test_b105_default_limits(world: World) -> None:
    """The default limit of runs, steps, hooks and waits is 100."""
    await start_run(world)
    numbers = range(101)
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in numbers))
    await asyncio.gather(*(create_step(world, RUN, f"step_{number}") for number in numbers))
    await asyncio.gather(*(create_wait(world, RUN, f"wait_{number}") for number in numbers))
    await asyncio.gather(
        *(create_hook(world, RUN, f"hook_{number}", f"token {number}") for number in numbers)
    )
    for name in ("runs", "steps", "hooks", "waits"):
        for limit in (None, 0, -1):
            page = await lists(world)[name](limit=limit)
            assert (len(page.data), page.has_more) == (100, True), name
        page = await lists(world)[name](limit=1001)
        assert (len(page.data), page.has_more) == (102 if name == "runs" else 101, False), name


@pytest.mark.anyio
async def test_b106_the_last_cursor_of_a_log_goes_on(world: World, rival: World) -> None:
    """events.list: the final cursor fetches later events; an empty page echoes its cursor."""
    empty = await world.events.list(RUN)
    assert ([*empty.data], empty.cursor, empty.has_more) == ([], None, False)
    await start_run(world)
    page = await world.events.list(RUN)
    assert page.has_more is False
    assert page.cursor is not None
    for _ in range(2):
        nothing = await world.events.list(RUN, cursor=page.cursor)
        assert ([*nothing.data], nothing.cursor, nothing.has_more) == ([], page.cursor, False)
    for number in range(3):
        await create_step(rival, RUN, f"step_{number}")
        later = await world.events.list(RUN, cursor=page.cursor)
        assert [event.correlation_id for event in later.data] == [f"step_{number}"]
        assert later.has_more is False
        page = later
    again = await rival.events.list(RUN, limit=2)
    rest = await rival.events.list(RUN, limit=3, cursor=again.cursor)
    assert rest.cursor is not None
    assert rest.cursor == page.cursor


@pytest.mark.anyio
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_b107_inserts_and_deletes_do_not_disturb_a_walk(
    world: World, make_world: MakeWorld, clock: ManualClock, order: str
) -> None:
    """Rows inserted or deleted during a walk: those that stood all the while come once."""
    behind = make_world(clock=(late := ManualClock()))
    late.advance(-60)
    await _fill(world, clock, 0.001)
    readers = {name: partial(read, sort_order=order) for name, read in lists(world).items()}
    before = {name: [*(await read()).data] for name, read in readers.items()}
    pages = {name: await read(limit=4) for name, read in readers.items()}
    seen = {name: [*page.data] for name, page in pages.items()}
    gone = {seen["hooks"][3].hook_id, seen["hooks"][0].hook_id, "hook_05"} - {"hook_00"}
    for hook_id in sorted(gone):
        await send(world, RUN, "hook_disposed", hook_id)
    for one, run_id in ((world, "wrun_new"), (behind, "wrun_old")):
        await start_run(one, run_id)
        await create_hook(one, run_id, "hook_00", f"token of {run_id}")
        await create_wait(one, run_id, "wait_new")
    for number in range(3):
        await create_step(world, RUN, f"step_new_{number}")
        await create_step(behind, RUN, f"step_0{number}x")
        await receive(world, RUN, "hook_00")
    for name, read in readers.items():
        cursor = pages[name].cursor
        while cursor is not None:
            page = await read(limit=2, cursor=cursor)
            seen[name].extend(page.data)
            cursor = page.cursor if page.has_more else None
        names = [repr(one) for one in seen[name]]
        assert len(names) == len(set(names)), name
        stayed = [one for one in before[name] if not ("hooks" in name and one.hook_id in gone)]
        kept = [one for one in seen[name] if one in stayed]
        assert kept == stayed, name


@pytest.mark.anyio
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "cursor", ["garbage", "!!!", "e30", "bnVsbA", "\0", "é", "W10", "a" * 5000]
)
async def test_b108_malformed_cursor(world: World, name: str, cursor: str) -> None:
    """A malformed cursor: 400."""
    await create_run(world)
    with pytest.raises(InvalidRequestError) as caught:
        await lists(world)[name](cursor=cursor)
    assert caught.value.status == 400


@pytest.mark.anyio
async def test_b108_a_cursor_of_another_list(world: World, clock: ManualClock) -> None:
    """A cursor is valid only with the same operation, filters and order."""
    await _fill(world, clock, 0)
    readers = lists(world)
    cursors = {name: (await read(limit=2)).cursor for name, read in readers.items()}
    for name, read in readers.items():
        assert (await read(limit=2, cursor=cursors[name])).data
        for other, cursor in cursors.items():
            if other != name:
                with pytest.raises(InvalidRequestError):
                    await read(cursor=cursor)
        turned = "asc" if name in ("runs", "steps") else "desc"
        with pytest.raises(InvalidRequestError):
            await read(cursor=cursors[name], sort_order=turned)
    with pytest.raises(InvalidRequestError):
        await world.runs.list(cursor=cursors["runs"], workflow_name="greet")
    with pytest.raises(InvalidRequestError):
        await world.runs.list(cursor=cursors["runs"], status="pending")
    with pytest.raises(InvalidRequestError):
        await world.steps.list(OTHER_RUN, cursor=cursors["steps"])
    with pytest.raises(InvalidRequestError):
        await world.events.list(RUN, cursor=cursors["events"], event_types=["noop"])
