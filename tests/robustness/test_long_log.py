"""A run with as many events as the SDK allows: what is read of its log costs what is new of it.

Everything is counted by the database itself, so that no machine is too slow for it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias

import pytest
from sqlalchemy import text

from workflow_world import World
from workflow_world.codec import encode
from workflow_world.core.events import SLOT_IDS_SPEC_VERSION
from workflow_world.sql.log_cache import LogCache

from .conftest import MakeWorld
from .helpers import event, not_on_libsql, sql_on
from .spent import Spent, spent

pytestmark = pytest.mark.anyio

EVENTS: Final = 25_000
"""The SDK's cap."""
SHORT: Final = 100
PAGE: Final = 1_000
RUN: Final = "wrun_long"
PAYLOAD: Final = bytes(200)
A_FEW: Final = 10
"""Instructions of SQLite's, or rows: to load a larger number takes another one."""

Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[World, Spent]]]


async def fill(world: World, url: str, run_id: str, count: int) -> None:
    """A log of so many events: steps that are created, started and done. All but the first two
    come by one statement, as the World would have written them."""
    created = event("run_created", deploymentId="d", workflowName="w", input=b"")
    await world.events.create(run_id, {**created, "specVersion": SLOT_IDS_SPEC_VERSION})
    await world.events.create(run_id, event("run_started"))
    with sql_on(url) as connection:
        connection.execute(
            text(FILL),
            {
                "run_id": run_id,
                "count": count,
                "created": encode({"stepName": "s", "input": PAYLOAD}),
                "completed": encode({"result": PAYLOAD}),
            },
        )


FILL: Final = """
INSERT INTO workflow_events (run_id, position, event_id, event_type, correlation_id, spec_version,
    event_data, created_at)
WITH RECURSIVE numbers(n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT :run_id, n, 'evnt_000000000000000000' || substr(CAST(100000000 + n AS text), 2),
    CASE n % 3 WHEN 0 THEN 'step_created' WHEN 1 THEN 'step_started' ELSE 'step_completed' END,
    'step_' || CAST(n / 3 AS text), 6,
    CASE n % 3 WHEN 0 THEN :created WHEN 2 THEN :completed END,
    (SELECT max(created_at) FROM workflow_events)
FROM numbers
"""


@pytest.fixture
def opened(request: pytest.FixtureRequest, url: str, make_world: MakeWorld) -> Opened:
    """``async with opened() as (world, spent)``: a World with nothing in its caches."""
    server = request.getfixturevalue("server") if url.startswith("postgresql:") else None

    @asynccontextmanager
    async def open_one() -> AsyncIterator[tuple[World, Spent]]:
        with spent(url, server, "workflow_events") as found:
            world = make_world(url)
            await world.backend.open()
            yield world, found
            await world.close()

    return open_one


async def cost(opened: Opened, work: Callable[[World], Any]) -> int:
    async with opened() as (world, found):
        await work(world)
    return found.count


async def whole(world: World) -> int:
    """A replay: the whole log, page by page. Returns: how many events came, once and in order."""
    seen, cursor = 0, None
    while True:
        page = await world.events.list(RUN, limit=PAGE, cursor=cursor)
        assert len(page.data) <= PAGE
        assert [one.position for one in page.data] == [*range(seen + 1, seen + 1 + len(page.data))]
        seen += len(page.data)
        if not page.has_more:
            return seen
        cursor = page.cursor


@not_on_libsql
async def test_a_log_of_25_000_events(opened: Opened, make_world: MakeWorld, url: str) -> None:
    maker = make_world(url)
    await fill(maker, url, "wrun_short", SHORT)
    await fill(maker, url, RUN, EVENTS)
    cursors = {
        run_id: (await maker.events.list(run_id, limit=1, sort_order="desc")).data[0].position
        for run_id in ("wrun_short", RUN)
    }
    assert cursors == {"wrun_short": SHORT, RUN: EVENTS}
    await maker.close()
    await the_end_costs_what_it_is(opened)
    await pages_cost_what_they_hold(opened)
    await a_replay_costs_what_is_new(opened)
    await an_event_costs_what_it_did_at_first(opened)
    await memory_is_bounded(opened)


async def the_end_costs_what_it_is(opened: Opened) -> None:
    """Ten events from behind a cursor, and the newest ten: of 25,000 as of 100."""

    async def end_of(run_id: str) -> tuple[int, int]:
        cursor = await place(opened, run_id, 10)

        async def suffix(world: World) -> None:
            page = await world.events.list(run_id, cursor=cursor)
            assert (len(page.data), page.has_more) == (10, False)

        async def newest(world: World) -> None:
            page = await world.events.list(run_id, limit=10, sort_order="desc")
            assert len(page.data) == 10

        return await cost(opened, suffix), await cost(opened, newest)

    for long, short in zip(await end_of(RUN), await end_of("wrun_short"), strict=True):
        assert abs(long - short) <= A_FEW


async def place(opened: Opened, run_id: str, behind: int) -> str:
    """The cursor before the last so many events, as somebody got it who read up to there."""
    async with opened() as (world, _):
        cursor, last = None, EVENTS if run_id == RUN else SHORT
        while True:
            page = await world.events.list(run_id, limit=PAGE, cursor=cursor)
            if page.data[-1].position >= last - behind:
                break
            cursor = page.cursor
        before = page.data[0].position
        page = await world.events.list(run_id, limit=last - behind - before + 1, cursor=cursor)
        assert page.data[-1].position == last - behind
        assert page.cursor is not None
        return page.cursor


async def pages_cost_what_they_hold(opened: Opened) -> None:
    async def read(world: World) -> None:
        assert await whole(world) == EVENTS

    async def first(world: World) -> None:
        await world.events.list(RUN, limit=PAGE)

    assert await cost(opened, read) <= 1.1 * EVENTS / PAGE * await cost(opened, first)


async def a_replay_costs_what_is_new(opened: Opened) -> None:
    """Five replays, each after one more event: together less than two pages."""
    count = EVENTS

    async def replays(world: World, times: int) -> None:
        nonlocal count
        assert await whole(world) == count
        for _ in range(times):
            step = event("step_created", f"step_new_{count}", stepName="s", input=PAYLOAD)
            await world.events.create(RUN, step)
            count += 1
            assert await whole(world) == count

    once = await cost(opened, lambda world: replays(world, 0))
    often = await cost(opened, lambda world: replays(world, 5))
    assert often - once <= 2 * once / (EVENTS / PAGE)


async def an_event_costs_what_it_did_at_first(opened: Opened) -> None:
    def append(run_id: str) -> Callable[[World], Any]:
        new = event("step_created", "step_last", stepName="s", input=PAYLOAD)
        return lambda world: world.events.create(run_id, new)

    long, short = await cost(opened, append(RUN)), await cost(opened, append("wrun_short"))
    assert abs(long - short) <= A_FEW


async def memory_is_bounded(opened: Opened) -> None:
    """By what the cache may keep and one page, not by the log."""
    bound = 4 << 20
    async with opened() as (world, _):
        runs: Any = world.backend.runs
        runs._log = LogCache(runs._statements, bound)
        await world.events.list(RUN, limit=PAGE)
        tracemalloc.start()
        try:
            await whole(world)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert runs._log._bytes <= bound
    page = PAGE * (len(PAYLOAD) + 2_000)
    print(f"peak {peak >> 10} KiB")  # noqa: T201
    assert peak <= bound + 3 * page
