"""What a long log and a full queue cost: counted, never timed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from workflow_world import World
from workflow_world.sql.compiled import Row, Session
from workflow_world.sql.log_cache import LogCache

from .helpers import PATIENCE_S, PREFIX, QUEUE, create_run, step_event

pytestmark = pytest.mark.anyio

PER_BATCH = (
    "find pending messages",
    "find processing messages",
    "claim messages",
    "find next due time",
    "find held messages",
    "end messages",
)


async def test_a_replay_of_a_thousand_events_reads_only_the_new_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_run(world, "wrun_1")
    for kind in ("step_created", "step_started", "step_completed"):
        steps = (step_event(world, "wrun_1", kind, f"step_{number}") for number in range(333))
        await asyncio.gather(*steps)
    assert len((await world.events.log("wrun_1")).data) == 1_000
    read, found = LogCache._rows, list[Row]()

    def rows(*about: Any) -> list[Row]:
        fresh = read(*about)
        found.extend(fresh)
        return fresh

    monkeypatch.setattr(LogCache, "_rows", rows)
    for kind in ("step_created", "step_started", "step_completed"):
        await step_event(world, "wrun_1", kind, "step_new")
    page = await world.events.log("wrun_1")
    rest = await world.events.log("wrun_1", cursor=page.cursor)
    assert [event.position for event in (*page.data, *rest.data)] == [*range(1, 1_004)]
    # With each page the row before it, which proves that what is kept is still the log's.
    # With each page one row that was known: it proves that what is kept is still the log's.
    assert [row[1] for row in found] == [1_000, 1_001, 1_001, 1_002, 1_003]


async def test_a_batch_of_messages_costs_one_claim_and_one_settlement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, seen, done = 99, 0, asyncio.Event()
    for number in range(total):
        await world.queue(QUEUE, {"n": number})
    statements, execute = Counter[str](), Session._execute

    def counted(session: Session, statement: Any, values: Any) -> None:
        statements[statement.before.removeprefix("before ")] += 1
        execute(session, statement, values)

    async def handle(message: object, **about: object) -> None:
        nonlocal seen
        seen += 1
        if seen == total:
            done.set()

    monkeypatch.setattr(Session, "_execute", counted)
    world.create_queue_handler(PREFIX, handle)
    async with asyncio.timeout(PATIENCE_S):
        await world.start()
        await done.wait()
    await world.close()
    # 19 while one slot is kept for what may be enqueued meanwhile, then 20 four times.
    assert {name: statements[name] for name in PER_BATCH} == dict.fromkeys(PER_BATCH, 5)
