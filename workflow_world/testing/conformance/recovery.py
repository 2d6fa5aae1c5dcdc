"""The sweep for runs that nobody would wake (B160 to B166)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ...api.context import Context
from ...codec import decode
from ...core.delivery import Again, Done
from ...core.entities import Message, RunStatus
from ...core.recovery import MOMENT
from ...worker.upkeep import Upkeep
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld
from .helpers import (
    ENDINGS,
    OTHER_RUN,
    RUN,
    SOON,
    create_hook,
    create_run,
    create_step,
    create_wait,
    end_run,
    receive,
    send,
    start_run,
    start_step,
)
from .queue_helpers import (
    LONG_LEASE_MS,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Recorder,
    advance_until,
    claim_one,
    complete,
    end,
    exhaust,
    message_in,
    put,
    unfinished,
    working,
)

GRACE_S = 30
RETENTION_S = 4000
KEY_TTL = timedelta(seconds=5)


async def sweep(world: World, clock: ManualClock, *, at_start: bool = False) -> int:
    """One pass, as a worker makes it. Returns: how many messages it sent."""
    context = Context(world.backend, world.settings, clock)
    return await Upkeep(context, world.messages).sweep(at_start=at_start)


async def replay(world: World, clock: ManualClock, run_id: str = RUN) -> None:
    """A delivery of a workflow message: claimed now, and completed."""
    message_id = await put(world, run_id=run_id)
    await complete(world, message_id, clock.now())


async def only_message(world: World, run_id: str = RUN) -> Message:
    (message,) = await unfinished(world, run_id)
    return message


@pytest.mark.anyio
async def test_b160_pending_run_without_a_message_gets_one(
    world: World, clock: ManualClock
) -> None:
    """Not before the grace time, and not twice."""
    await create_run(world)
    clock.advance(GRACE_S - 0.001)
    assert await sweep(world, clock, at_start=True) == 0
    clock.advance(0.001)
    assert await sweep(world, clock) == 1
    message = await only_message(world)
    assert (message.queue_name, message.status) == (QUEUE_NAME, "pending")
    assert (message.run_id, message.step_id, message.idempotency_key) == (RUN, None, None)
    assert decode(message.payload)["runId"] == RUN
    assert message.available_at <= clock.now()
    clock.advance(3600)
    assert await sweep(world, clock, at_start=True) == 0
    assert await only_message(world) == message


@pytest.mark.anyio
@pytest.mark.parametrize("state", ["pending", "delayed", "processing", "of a step"])
async def test_b160_run_with_an_unfinished_message_is_left_alone(
    world: World, clock: ManualClock, state: str
) -> None:
    """Whatever the message is for, and whenever it is due."""
    await create_run(world)
    delay = timedelta(days=1) if state == "delayed" else timedelta(0)
    step_id = "step_1" if state == "of a step" else None
    message_id = await put(world, run_id=RUN, step_id=step_id, delay=delay)
    if state == "processing":
        await claim_one(world, message_id, lease=timedelta(days=1))
    clock.advance(3600)
    assert await sweep(world, clock, at_start=True) == 0
    assert (await only_message(world)).message_id == message_id


@pytest.mark.anyio
async def test_b160_worker_sweeps_at_start_and_later(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """A started worker delivers to lost runs: those it finds at once, and those of later."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS)
    await create_run(world, RUN)
    clock.advance(GRACE_S + 1)
    await create_run(world, "wrun_a_young")
    handler = await working(world, Recorder())
    await handler.called(1)
    assert handler.deliveries[0].message["runId"] == RUN
    assert handler.deliveries[0].queue_name == QUEUE_NAME
    # Runs are swept in the order of their ids, so the young one was looked at before.
    assert await unfinished(world, "wrun_a_young") == []
    await advance_until(
        clock,
        lambda: any(one.message["runId"] == "wrun_a_young" for one in handler.deliveries),
        seconds=1,
    )
    assert clock.now() >= START + timedelta(seconds=2 * GRACE_S + 1)


@pytest.mark.anyio
async def test_b161_step_without_a_message_is_sent(world: World, clock: ManualClock) -> None:
    """Its message names run and step; the step's id is the key; not twice."""
    await start_run(world)
    clock.advance(5)
    await create_step(world)
    clock.advance(GRACE_S - 0.001)
    assert await sweep(world, clock) == 0
    clock.advance(0.001)
    assert await sweep(world, clock) == 1
    message = await only_message(world)
    assert (message.queue_name, message.run_id, message.step_id) == (QUEUE_NAME, RUN, "step_1")
    assert message.idempotency_key == "step_1"
    body = decode(message.payload)
    assert (body["runId"], body["stepId"], body["stepName"]) == (RUN, "step_1", "add")
    assert await sweep(world, clock, at_start=True) == 0


@pytest.mark.anyio
async def test_b161_started_step_without_a_message_is_sent(
    world: World, clock: ManualClock
) -> None:
    """A step whose worker is gone is running, but nobody runs it."""
    await start_run(world)
    await create_step(world)
    await start_step(world)
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == 1
    assert (await only_message(world)).step_id == "step_1"


@pytest.mark.anyio
async def test_b161_lost_step_is_executed(make_world: MakeWorld, clock: ManualClock) -> None:
    """A started worker finds the step and delivers it."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS)
    await start_run(world)
    await create_step(world)
    clock.advance(GRACE_S + 1)
    handler = await working(world, Recorder())
    await handler.called(1)
    assert handler.deliveries[0].message["stepId"] == "step_1"
    await message_in(world, handler.ids[0], "completed")


@pytest.mark.anyio
@pytest.mark.parametrize("state", ["pending", "delayed", "processing", "failed"])
async def test_b161_step_with_a_message_is_left_alone(
    world: World, clock: ManualClock, state: str
) -> None:
    """An unfinished message will still come, and a failed one was given up on purpose."""
    await start_run(world)
    await create_step(world)
    message_id = await put(
        world,
        run_id=RUN,
        step_id="step_1",
        queue_name=STEP_QUEUE_NAME,
        idempotency_key="step_1",
        max_attempts=1,
        delay=timedelta(days=1) if state == "delayed" else timedelta(0),
    )
    if state == "processing":
        await claim_one(world, message_id, lease=timedelta(days=1))
    if state == "failed":
        await exhaust(world, message_id, clock.now())
    clock.advance(3600)
    assert await sweep(world, clock) == 0


@pytest.mark.anyio
async def test_b161_completed_message_of_an_open_step_does_not_count(
    world: World, clock: ManualClock
) -> None:
    """A message that was acknowledged without an outcome for its step is sent again."""
    await start_run(world)
    await create_step(world)
    done = await put(world, run_id=RUN, step_id="step_1", idempotency_key="step_1", key_ttl=KEY_TTL)
    await complete(world, done, clock.now())
    clock.advance(3600)
    assert await sweep(world, clock) == 1
    assert (await only_message(world)).message_id != done


@pytest.mark.anyio
async def test_b161_retried_step_is_due_when_its_retry_is(world: World, clock: ManualClock) -> None:
    """retryAfter in the future is the message's due time."""
    await start_run(world)
    await create_step(world)
    await start_step(world)
    retry_after = START + timedelta(seconds=600)
    await send(world, RUN, "step_retrying", "step_1", error=b"err", retryAfter=retry_after)
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == 1
    assert (await only_message(world)).available_at == retry_after


@pytest.mark.anyio
async def test_b161_only_open_steps_of_running_runs_are_sent(
    world: World, clock: ManualClock
) -> None:
    """Not a final step, nor any step of a run that has ended."""
    await start_run(world)
    await create_step(world)
    await start_step(world)
    await send(world, RUN, "step_completed", "step_1", result=b"out")
    await replay(world, clock)
    await start_run(world, OTHER_RUN)
    await create_step(world, OTHER_RUN, "step_2")
    await end_run(world, OTHER_RUN, "cancelled")
    # A replay in the same millisecond may or may not have seen the outcome: give it a later one.
    clock.advance(1)
    await replay(world, clock)
    clock.advance(3600)
    assert await sweep(world, clock) == 0


@pytest.mark.anyio
async def test_b162_elapsed_wait_wakes_its_run(world: World, clock: ManualClock) -> None:
    """Once it is due; a wait in the future does not."""
    await start_run(world)
    await create_wait(world, resume_at=SOON)
    await create_wait(world, wait_id="wait_2", resume_at=SOON + timedelta(days=1))
    clock.advance(59)
    assert await sweep(world, clock) == 0
    clock.advance(1 + GRACE_S)
    assert await sweep(world, clock) == 1
    assert decode((await only_message(world)).payload)["runId"] == RUN
    assert await sweep(world, clock) == 0


@pytest.mark.anyio
async def test_b162_timer_of_a_wait_is_left_alone(world: World, clock: ManualClock) -> None:
    """An unfinished message of the run will wake it."""
    await start_run(world)
    await create_wait(world, resume_at=SOON)
    timer = await put(world, run_id=RUN, delay=timedelta(seconds=60), idempotency_key="wait_1")
    clock.advance(3600)
    assert await sweep(world, clock) == 0
    assert (await only_message(world)).message_id == timer


@pytest.mark.anyio
async def test_b162_completed_wait_does_not_wake(world: World, clock: ManualClock) -> None:
    """A wait that is over, and was seen by a delivery, is no reason."""
    await start_run(world)
    await create_wait(world, resume_at=SOON)
    clock.advance(60)
    await send(world, RUN, "wait_completed", "wait_1")
    clock.advance(1)
    await replay(world, clock)
    clock.advance(3600)
    assert await sweep(world, clock) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("outcome", ["hook", "step_completed", "step_failed", "wait"])
async def test_b163_unseen_outcome_wakes_the_run_once(
    world: World, clock: ManualClock, outcome: str
) -> None:
    """Younger than the last claim of a workflow message, and nothing under way: woken, once."""
    await start_run(world)
    await replay(world, clock)
    await create_hook(world)
    clock.advance(1)
    if outcome == "hook":
        await receive(world)
    elif outcome == "wait":
        await create_wait(world, resume_at=clock.now())
        await send(world, RUN, "wait_completed", "wait_1")
    else:
        await create_step(world)
        await start_step(world)
        await send(world, RUN, outcome, "step_1", error=b"err")
    clock.advance(GRACE_S - 0.001)
    assert await sweep(world, clock) == 0
    clock.advance(0.001)
    assert await sweep(world, clock) == 1
    message = await only_message(world)
    assert (message.queue_name, message.step_id) == (QUEUE_NAME, None)
    clock.advance(1)
    await complete(world, message.message_id, clock.now())
    clock.advance(3600)
    assert await sweep(world, clock) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["timer", "rescheduled", "step"])
async def test_b163_payload_wakes_a_run_whose_message_will_not(
    world: World, rival: World, clock: ManualClock, kind: str
) -> None:
    """Who sent it died before the wake-up, and what the run has is not due, or is a step's."""
    await start_run(world)
    await create_hook(world)
    if kind == "rescheduled":
        message = await claim_one(world, await put(world, run_id=RUN))
        assert await end(world, message, Again(delay_seconds=86_400), clock.now())
    else:
        await replay(world, clock)
        step_id = "step_1" if kind == "step" else None
        await put(world, run_id=RUN, step_id=step_id, delay=timedelta(days=1))
    clock.advance(1)
    await receive(world)
    clock.advance(GRACE_S - 0.001)
    assert await sweep(world, clock) == 0
    clock.advance(0.001)
    assert sum(await asyncio.gather(*(sweep(one, clock) for one in (world, rival)))) == 1
    sent, other = sorted(await unfinished(world, RUN), key=lambda one: one.available_at)
    assert (sent.queue_name, sent.step_id, sent.is_wake_up) == (QUEUE_NAME, None, False)
    assert sent.available_at <= clock.now() < other.available_at
    clock.advance(60)
    assert await sweep(world, clock) == 0
    await claim_one(world, sent.message_id, lease=timedelta(seconds=50))
    for _ in range(2):
        clock.advance(40)
        assert await sweep(world, clock) == 0
    await world.backend.messages.reap()
    await complete(world, sent.message_id, clock.now())
    clock.advance(3600)
    assert await sweep(world, clock, at_start=True) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [timedelta(0), timedelta(seconds=3600) + MOMENT])
async def test_b163_payload_is_left_to_a_message_that_is_due_soon(
    world: World, clock: ManualClock, delay: timedelta
) -> None:
    """As its sender enqueues one: however long nobody takes it."""
    await start_run(world)
    await create_hook(world)
    await replay(world, clock)
    await put(world, run_id=RUN, delay=timedelta(days=1))
    await receive(world)
    await put(world, run_id=RUN, delay=delay)
    clock.advance(3600)
    assert await sweep(world, clock, at_start=True) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("ended", [True, False])
async def test_b163_resume_counts_although_the_clock_was_set_back(
    world: World, clock: ManualClock, ended: bool
) -> None:
    """A claim came before it and has a later time; whether that delivery is over or not."""
    await start_run(world)
    await create_hook(world)
    clock.advance(60)
    message_id = await put(world, run_id=RUN)
    message = await claim_one(world, message_id)
    if ended:
        assert await end(world, message, Done(), clock.now())
    clock.advance(-20)
    await receive(world)
    if not ended:
        assert await end(world, message, Done(), clock.now())
    clock.advance(3600)
    assert await sweep(world, clock) == 1


@pytest.mark.anyio
async def test_b163_claim_of_a_step_message_is_no_replay(world: World, clock: ManualClock) -> None:
    """Only a workflow message's delivery reads what the run waits for."""
    await start_run(world)
    await create_hook(world)
    await receive(world)
    clock.advance(1)
    await complete(world, await put(world, run_id=RUN, step_id="step_9"), clock.now())
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == 1


@pytest.mark.anyio
async def test_b163_last_claim_is_remembered_when_its_message_is_pruned(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """A run that consumed its payload is not woken again after the retention."""
    world = make_world(completed_retention_s=60)
    await start_run(world)
    await create_hook(world)
    await receive(world)
    clock.advance(1)
    await replay(world, clock)
    clock.advance(RETENTION_S)
    context = Context(world.backend, world.settings, clock)
    assert await Upkeep(context, world.messages).prune() == 1
    assert await sweep(world, clock, at_start=True) == 0


@pytest.mark.anyio
async def test_b164_run_that_waits_for_a_hook_is_not_woken(
    world: World, clock: ManualClock
) -> None:
    """Neither by the periodic pass nor at start."""
    await start_run(world)
    await create_hook(world)
    clock.advance(1)
    await replay(world, clock)
    for at_start in (False, True):
        clock.advance(3600)
        assert await sweep(world, clock, at_start=at_start) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b164_ended_run_is_never_woken(
    world: World, clock: ManualClock, status: RunStatus
) -> None:
    """Whatever it left behind."""
    await start_run(world)
    await create_step(world)
    await create_wait(world)
    await create_hook(world)
    await receive(world)
    await end_run(world, RUN, status)
    clock.advance(3600)
    assert await sweep(world, clock, at_start=True) == 0
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_b164_step_of_a_run_that_waits_for_a_hook_is_sent(
    world: World, clock: ManualClock
) -> None:
    """A live hook is no reason to leave a lost step alone."""
    await start_run(world)
    await create_hook(world)
    await create_step(world)
    clock.advance(1)
    await replay(world, clock)
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == 1
    assert (await only_message(world)).step_id == "step_1"


@pytest.mark.anyio
async def test_b161_step_is_sent_although_the_run_has_another_message(
    world: World, clock: ManualClock
) -> None:
    """The run's timer does not wake its lost step."""
    await start_run(world)
    await create_step(world)
    await put(world, run_id=RUN, delay=timedelta(days=1), idempotency_key="wait_1")
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == 1
    assert {one.step_id for one in await unfinished(world, RUN)} == {None, "step_1"}
