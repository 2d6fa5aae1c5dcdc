"""The first time a log is read: a short one by a glance, a long one as a whole."""

from __future__ import annotations

import asyncio

import pytest

from workflow_world import World
from workflow_world.sql.database import FEW_EVENTS as FEW

from .conftest import MakeWorld
from .helpers import create_run, step_event

pytestmark = pytest.mark.anyio


async def positions(world: World, limit: int, cursor: str | None = None) -> list[int]:
    """Of all pages from the cursor on."""
    found = list[int]()
    while True:
        page = await world.events.list("wrun_1", limit=limit, cursor=cursor)
        found.extend(event.position for event in page.data)
        if not page.has_more:
            return found
        cursor = page.cursor


@pytest.mark.parametrize("length", [1, FEW - 1, FEW, FEW + 1, 2 * FEW + 3])
async def test_every_page_is_whole(make_world: MakeWorld, length: int) -> None:
    writer = make_world()
    await create_run(writer, "wrun_1")
    await asyncio.gather(
        *(step_event(writer, "wrun_1", "step_created", f"s{n}") for n in range(length - 1))
    )
    half = length // 2 or 1
    cursor = (await writer.events.list("wrun_1", limit=half)).cursor
    await writer.close()
    for limit in (1, FEW - 1, FEW, FEW + 1, 1000):
        for after, first in ((None, 1), (cursor, half + 1)):
            stranger = make_world()  # nothing of the log is known to it
            assert await positions(stranger, limit, after) == list(range(first, length + 1))
            await stranger.close()
