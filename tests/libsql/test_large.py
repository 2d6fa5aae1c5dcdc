"""What is over the server's limits: one row, and one answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from postgres.helpers import create_run, event, log_of

from workflow_world import World
from workflow_world.errors import PayloadTooLargeError
from workflow_world.sql.libsql import session

from .conftest import MakeWorld

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000


async def test_a_value_over_the_limit_is_refused_and_changes_nothing(world: World) -> None:
    await create_run(world, "wrun_1")
    with pytest.raises(PayloadTooLargeError, match="5 MB") as caught:
        await world.events.create(
            "wrun_1", event("step_created", "s", stepName="s", input=bytes(5 * MEGABYTE + 1))
        )
    assert caught.value.status == 413
    assert await log_of(world, "wrun_1") == [("run_created", None)]


async def test_its_neighbours_in_the_batch_are_written(world: World) -> None:
    sizes = [1, 6 * MEGABYTE, 2, 3]
    done = await asyncio.gather(
        *(
            world.events.create(
                f"wrun_{number}",
                event("run_created", deploymentId="d", workflowName="w", input=bytes(size)),
            )
            for number, size in enumerate(sizes)
        ),
        return_exceptions=True,
    )
    assert [isinstance(one, PayloadTooLargeError) for one in done] == [False, True, False, False]
    assert len((await world.runs.list()).data) == 3


async def test_a_chunk_over_the_limit_is_refused_before_it_is_sent(world: World) -> None:
    limit = world.backend.capabilities.max_chunk_bytes
    assert limit is not None
    await world.streams.write("wrun_1", "out", bytes(limit))
    with pytest.raises(PayloadTooLargeError):
        await world.streams.write("wrun_1", "out", bytes(limit + 1))
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == 0


async def test_a_log_that_is_larger_than_an_answer(
    world: World, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers end at 10 MB: it comes in parts, in its order, from one instant."""
    monkeypatch.setattr(session, "_PART", 4)
    await create_run(world, "wrun_1")
    for number in range(6):
        value = bytes([number]) * (2 * MEGABYTE)
        await world.events.create(
            "wrun_1", event("step_created", f"s{number}", stepName="s", input=value)
        )
    page = await make_world().events.list(run_id="wrun_1", limit=1000)
    assert [one.position for one in page.data] == list(range(1, 8))
    inputs = [(one.event_data or {})["input"] for one in page.data[1:]]
    assert [(len(one), one[0]) for one in inputs] == [(2 * MEGABYTE, n) for n in range(6)]
    steps = (await world.steps.list("wrun_1", limit=100)).data
    assert len(steps) == 6


async def test_a_claim_that_is_larger_than_an_answer(world: World) -> None:
    for number in range(6):
        await world.queue(f"__wkf_step_s{number}", {"x": bytes([number]) * (2 * MEGABYTE)})
    claim = await world.backend.messages.claim(
        limit=20, lease=timedelta(seconds=30), serialize_runs=True, prefixes=None
    )
    assert len(claim.messages) == 6
