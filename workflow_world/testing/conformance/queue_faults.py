"""The worker in trouble: poisoned messages, lost leases, outages, shutdown (B139 to B155)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ...core.delivery import EXHAUSTED_CODE
from ...errors import BackendError, WorldClosedError
from ...http import QueueContinuation
from ..clock import ManualClock
from .fixtures import MakeWorld
from .helpers import RUN, end_run, log_types, start_run
from .queue_helpers import (
    LONG_LEASE_MS,
    PATIENCE_S,
    QUEUE_NAME,
    Gate,
    Recorder,
    advance_until,
    claim_one,
    message_in,
    message_that,
    put,
    soon,
    store_of,
    working,
)
from .watched import Watched


@pytest.mark.anyio
async def test_exhausted_message_fails_its_run(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Design 7: run_failed with MAX_DELIVERIES_EXCEEDED and the last error; logged as an error."""
    world = make_world(real_time=True, max_retries=1)
    await start_run(world)
    await working(world, Recorder(RuntimeError("kaboom")))
    with caplog.at_level(logging.ERROR, "workflow_world"):
        message_id = await world.queue(QUEUE_NAME, {"runId": RUN})
        async with asyncio.timeout(PATIENCE_S):
            run = await world.runs.wait(RUN)
        await world.close()
        world = make_world()
    assert (run.status, run.error_code) == ("failed", EXHAUSTED_CODE)
    assert "kaboom" in str(run.error)
    message = await world.messages.get(message_id)
    assert message.status == "failed"
    assert (await log_types(world))[-1] == "run_failed"
    assert any(message_id in one.getMessage() for one in caplog.records)


@pytest.mark.anyio
async def test_exhausted_step_message_fails_its_run(make_world: MakeWorld) -> None:
    """A step's message counts as well."""
    world = make_world(real_time=True, max_retries=1)
    await start_run(world)
    await working(world, Recorder(RuntimeError("kaboom")))
    await world.queue(QUEUE_NAME, {"runId": RUN, "stepId": "step_1", "stepName": "add"})
    async with asyncio.timeout(PATIENCE_S):
        assert (await world.runs.wait(RUN)).error_code == EXHAUSTED_CODE


@pytest.mark.anyio
async def test_exhausted_message_leaves_an_ended_run_alone(make_world: MakeWorld) -> None:
    """A completed run stays completed; the message fails all the same."""
    world = make_world(real_time=True, max_retries=1)
    await start_run(world)
    completed = await end_run(world)
    await working(world, Recorder(RuntimeError("kaboom"), RuntimeError("kaboom")))
    for run_id in (RUN, "wrun_unknown"):
        await message_in(world, await world.queue(QUEUE_NAME, {"runId": run_id}), "failed")
    assert await world.runs.get(RUN) == completed
    assert await world.runs.get_many(["wrun_unknown"]) == [None]


@pytest.mark.anyio
async def test_exhausted_message_can_spare_its_run(make_world: MakeWorld) -> None:
    """fail_exhausted_runs=False: only the message fails."""
    world = make_world(real_time=True, max_retries=1, fail_exhausted_runs=False)
    await start_run(world)
    await working(world, Recorder(RuntimeError("kaboom")))
    await message_in(world, await world.queue(QUEUE_NAME, {"runId": RUN}), "failed")
    assert (await world.runs.get(RUN)).status == "running"


@pytest.mark.anyio
async def test_b141_message_that_kills_its_worker_is_given_up(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """After max_deliveries claims without an end: failed unseen by a handler, and so its run."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS, max_deliveries=3)
    await start_run(world)
    message_id = await world.queue(QUEUE_NAME, {"runId": RUN})
    for delivery in (1, 2, 3):
        assert (await claim_one(world, message_id)).deliveries == delivery
        clock.advance(31)
    handler = await working(world, Recorder())
    dead = await message_in(world, message_id, "failed")
    assert dead.attempt == 1
    assert dead.last_error is not None
    assert "3 deliveries" in str(dead.last_error["message"])
    run = await world.runs.get(RUN)
    assert (run.status, run.error_code) == ("failed", EXHAUSTED_CODE)
    assert handler.deliveries == []


@pytest.mark.anyio
async def test_b139_worker_recovers_expired_leases(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """At start, and later when a lease runs out; live leases are left alone."""
    dead, world = make_world(), make_world(lock_duration_ms=LONG_LEASE_MS)
    presence = await (await store_of(dead)).enter()
    try:
        old = await put(dead, available_at=clock.now())
        await claim_one(dead, old)
        clock.advance(20)
        young = await put(dead)
        held = await claim_one(dead, young)
        clock.advance(15)
        handler = await working(world, Recorder())
        await handler.called(1)
        assert handler.ids == [old]
        assert await world.messages.get(young) == held
        await advance_until(clock, lambda: len(handler.deliveries) == 2, seconds=1)
        assert handler.ids == [old, young]
        assert handler.attempts == [1, 1]
        assert held.leased_until is not None
        assert clock.now() >= held.leased_until
    finally:
        presence.close()


@pytest.mark.anyio
async def test_b140_worker_that_lost_its_lease_drops_the_result(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """The late handler's outcome changes nothing for the one who has the message now."""
    # With its one slot taken the worker does not claim, nor does it reap meanwhile: before either
    # it would extend its lease.
    rival = make_world()
    world = make_world(
        lock_duration_ms=LONG_LEASE_MS, recovery_interval_ms=10 * LONG_LEASE_MS, concurrency=1
    )
    gate = Gate(QueueContinuation(delay_seconds=5))
    handler = await working(world, Recorder(gate))
    message_id = await world.queue(QUEUE_NAME, {})
    await soon(gate.entered)
    clock.advance(LONG_LEASE_MS / 1000 + 1)
    taken = await claim_one(rival, message_id)
    gate.opened.set()
    await world.close()
    assert gate.left
    assert await rival.messages.get(message_id) == taken
    assert len(handler.deliveries) == 1


@pytest.mark.anyio
async def test_b142_close_waits_for_running_handlers(make_world: MakeWorld) -> None:
    """Nothing new is claimed; the running delivery ends and is settled before close returns."""
    world, rival = make_world(real_time=True), make_world(real_time=True)
    gate = Gate()
    handler = await working(world, Recorder(gate))
    running = await world.queue(QUEUE_NAME, {"n": 1})
    await soon(gate.entered)
    closing = asyncio.create_task(world.close())
    await asyncio.sleep(0)
    later = await rival.queue(QUEUE_NAME, {"n": 2})
    assert not closing.done()
    gate.opened.set()
    async with asyncio.timeout(PATIENCE_S):
        await closing
    assert gate.left
    assert not gate.was_cancelled
    assert (await rival.messages.get(running)).status == "completed"
    assert (await rival.messages.get(later)).deliveries == 0
    assert handler.ids == [running]


@pytest.mark.anyio
async def test_b142_close_gives_back_what_does_not_end(make_world: MakeWorld) -> None:
    """After the timeout: cancelled and released, attempt unchanged; another worker goes on."""
    world = make_world(real_time=True, shutdown_timeout_ms=20)
    other = make_world(real_time=True, poll_interval_ms=20)
    gate = Gate()
    first = await working(world, Recorder(gate))
    message_id = await world.queue(QUEUE_NAME, {})
    await soon(gate.entered)
    async with asyncio.timeout(PATIENCE_S):
        await world.close()
    assert gate.was_cancelled
    released = await other.messages.get(message_id)
    assert (released.status, released.attempt, released.lease_token) == ("pending", 1, None)
    second = await working(other, Recorder())
    await second.called(1)
    assert second.attempts == [1]
    assert len(first.deliveries) == 1


@pytest.mark.anyio
async def test_b142_failure_during_shutdown_is_a_failure(make_world: MakeWorld) -> None:
    """An error of the handler itself costs its attempt, shutdown or not."""
    world, rival = make_world(real_time=True), make_world(real_time=True)
    gate = Gate()

    async def fail() -> None:
        await gate()
        raise RuntimeError("boom")

    await working(world, Recorder(fail))
    message_id = await world.queue(QUEUE_NAME, {})
    await soon(gate.entered)
    closing = asyncio.create_task(world.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    message = await rival.messages.get(message_id)
    assert (message.status, message.attempt) == ("pending", 2)


@pytest.mark.anyio
async def test_b143_close_is_idempotent(make_world: MakeWorld) -> None:
    """Before start, twice, after start, and all at once."""
    unused = make_world()
    await unused.close()
    await unused.close()
    with pytest.raises(WorldClosedError):
        await unused.start()
    used = make_world(real_time=True)
    await working(used, Recorder())
    await asyncio.gather(*(used.close() for _ in range(3)))
    await used.aclose()


@pytest.mark.anyio
async def test_b143_close_works_with_the_database_down(make_world: MakeWorld) -> None:
    """Never started, or started and busy: close raises nothing and does not hang."""
    backend = Watched()
    other = Watched()
    unused = make_world(wrap=other.around)
    busy = make_world(real_time=True, wrap=backend.around, poll_interval_ms=20)
    await working(busy, Recorder())
    other.go_down()
    backend.go_down()
    await backend.failed()
    async with asyncio.timeout(PATIENCE_S):
        await unused.close()
        await busy.close()


@pytest.mark.anyio
async def test_b143_start_with_the_database_down_can_be_tried_again(
    make_world: MakeWorld,
) -> None:
    """A failed start is reported, and not remembered."""
    backend = Watched()
    backend.go_down()
    world = make_world(real_time=True, wrap=backend.around)
    handler = Recorder()
    with pytest.raises(BackendError):
        await working(world, handler)
    backend.come_back()
    await world.start()
    await world.queue(QUEUE_NAME, {})
    await handler.called(1)


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ["messages.claim", "messages.settle", "all"])
async def test_b155_worker_survives_an_outage(make_world: MakeWorld, verb: str) -> None:
    """Claims and settlements that failed are tried again when the database is back."""
    backend = Watched()
    world = make_world(real_time=True, wrap=backend.around, poll_interval_ms=20)
    rival = make_world(real_time=True)
    gate = Gate()
    handler = await working(world, Recorder(gate))
    first = await world.queue(QUEUE_NAME, {"n": 1})
    await soon(gate.entered)
    backend.fail(lambda asked: verb in ("all", asked))
    second = await rival.queue(QUEUE_NAME, {"n": 2})
    gate.opened.set()
    await backend.failed(2)
    backend.come_back()
    for message_id in (first, second):
        done = await message_in(rival, message_id, "completed")
        assert done.deliveries == 1
    assert handler.ids == [first, second]


@pytest.mark.anyio
async def test_b155_upkeep_survives_an_outage(make_world: MakeWorld, clock: ManualClock) -> None:
    """A recovery pass that failed is tried again, and the worker goes on meanwhile."""
    backend = Watched()
    backend.fail(lambda verb: verb == "runs.stranded")
    world = make_world(wrap=backend.around, lock_duration_ms=LONG_LEASE_MS)
    await start_run(world)
    clock.advance(60)
    handler = await working(world, Recorder())
    await backend.failed(1)
    message_id = await world.queue(QUEUE_NAME, {"n": 1})
    await handler.called(1)
    await message_in(world, message_id, "completed")
    backend.come_back()
    await advance_until(clock, lambda: len(handler.deliveries) == 2, seconds=5)
    assert handler.deliveries[1].message["runId"] == RUN


@pytest.mark.anyio
async def test_handler_that_met_an_outage_costs_no_attempt(make_world: MakeWorld) -> None:
    """Design 7: a delivery that failed because the database was away is not held against it."""
    world = make_world(real_time=True, max_retries=1)
    await working(world, Recorder(BackendError("gone")))
    message_id = await world.queue(QUEUE_NAME, {})
    message = await message_that(world, message_id, lambda one: one.last_error is not None)
    assert (message.status, message.attempt) == ("pending", 1)


@pytest.mark.anyio
async def test_b202_worker_of_a_closed_world_cannot_start(make_world: MakeWorld) -> None:
    """WorldClosedError, and the queue refuses too."""
    world = make_world(real_time=True)
    await working(world, Recorder())
    await world.close()
    for call in (world.start(), world.queue(QUEUE_NAME, {})):
        with pytest.raises(WorldClosedError):
            await call
