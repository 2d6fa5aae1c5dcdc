"""A deep backlog: a message costs what it costs in a short queue, counted by the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import text

from workflow_world import World
from workflow_world.backend import NewMessage
from workflow_world.core.delivery import Done, Limits, settle
from workflow_world.core.values import to_ms
from workflow_world.ids import new_id

from .conftest import MakeWorld
from .helpers import FLOW, FLOWS, LONG, STEPS, not_on_libsql, sql_on
from .spent import spent

pytestmark = pytest.mark.anyio

SHORT, DEEP = 100, (1_000_000 if LONG else 20_000)
NAMES, TAKEN = 20, 10

FILL: Final = """
INSERT INTO queue_messages (message_id, queue_name, payload, status, attempt, max_attempts,
    deliveries, available_at, run_id, is_wake_up, created_at, updated_at)
WITH RECURSIVE numbers(n) AS (
    SELECT CAST(:first AS integer) UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)
SELECT 'msg_' || substr(CAST(100000000 + n AS text), 2), :flow || CAST(n % :names AS text),
    :payload, 'pending', 1, 3, 0, :due + n, 'wrun_' || CAST(n AS text), :no, :due, :due
FROM numbers
"""


def fill(world: World, url: str, first: int, last: int) -> None:
    """Messages that are all due, of twenty workflows in turn."""
    due = to_ms(world.clock.now()) - 10_000_000
    with sql_on(url) as connection:
        connection.execute(
            text(FILL),
            {
                "first": first,
                "last": last,
                "flow": FLOW,
                "names": NAMES,
                "payload": b"\xa0",
                "due": due,
                "no": False,
            },
        )
        connection.execute(text("ANALYZE"))


async def deliver(world: World) -> None:
    """Ten messages are claimed, by name and by all names, extended and settled; one comes."""
    store, lease = world.backend.messages, timedelta(seconds=30)
    for prefixes in ((FLOWS, STEPS), None):
        claim = await store.claim(limit=TAKEN, lease=lease, serialize_runs=True, prefixes=prefixes)
        assert len(claim.messages) == TAKEN
        await store.settle(
            [
                (settle(one, Done(), now=world.clock.now(), spread=0, limits=Limits()), None)
                for one in claim.messages
            ]
        )
    await store.enqueue(
        NewMessage(
            message_id=new_id("msg"),
            queue_name=FLOW,
            payload=b"\xa0",
            max_attempts=3,
            run_id="wrun_1",
            idempotency_key=new_id("key"),
            is_wake_up=True,
        )
    )


@not_on_libsql
async def test_a_message_costs_the_same_in_a_deep_backlog(
    request: pytest.FixtureRequest, url: str, make_world: MakeWorld
) -> None:
    server = request.getfixturevalue("server") if url.startswith("postgresql:") else None
    counts = dict[int, int]()
    first = 0
    for depth in (SHORT, DEEP):
        filler = make_world(url)
        await filler.backend.open()
        fill(filler, url, first, first + depth - 1)
        first += depth
        await filler.close()
        counts[depth] = await cost(url, server, make_world, deliver)
    print(f"{counts}")  # noqa: T201
    assert counts[SHORT] > 0
    assert counts[DEEP] <= 1.5 * counts[SHORT]


async def cost(url: str, server: Any, make_world: MakeWorld, work: Callable[[World], Any]) -> int:
    with spent(url, server, "queue_messages") as found:
        world = make_world(url)
        await world.backend.open()
        await work(world)
        await world.close()
    return found.count
