"""The worker with handlers in this process: delivery, retries, sharing (B125 to B159)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ...core.entities import Message
from ...errors import ThrottleError, TooEarlyError
from ...http import QueueContinuation
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    LONG_LEASE_MS,
    MILLISECOND,
    PATIENCE_S,
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Gate,
    Recorder,
    advance_until,
    claim,
    eventually,
    message_in,
    message_that,
    soon,
    unfinished,
    working,
)

MESSAGES = 1000


@pytest.mark.anyio
async def test_b125_nothing_is_delivered_before_start(make_world: MakeWorld) -> None:
    """Registering a handler and queueing deliver nothing; start does, and twice is harmless."""
    world = make_world(real_time=True)
    handler = Recorder()
    world.create_queue_handler(PREFIX, handler)
    ids = [await world.queue(QUEUE_NAME, {"n": n}) for n in range(3)]
    assert [one.deliveries for one in (await world.messages.list()).data] == [0, 0, 0]
    assert handler.deliveries == []
    await world.start()
    await world.start()
    await handler.called(3)
    for message_id in ids:
        await message_in(world, message_id, "completed")
    await world.close()
    assert sorted(handler.ids) == sorted(ids)


@pytest.mark.anyio
async def test_b126_success_calls_the_handler_once(make_world: MakeWorld) -> None:
    """The handler gets the decoded payload, attempt 1, the queue's name and the message's id."""
    world = make_world(real_time=True)
    handler = await working(world, Recorder())
    message_id = await world.queue(QUEUE_NAME, {"runId": "wrun_1", "data": b"\x00\xff"})
    done = await message_in(world, message_id, "completed")
    (delivery,) = handler.deliveries
    assert delivery.message == {"runId": "wrun_1", "data": b"\x00\xff"}
    assert (delivery.attempt, delivery.queue_name) == (1, QUEUE_NAME)
    assert delivery.message_id == message_id
    assert (done.deliveries, done.last_error) == (1, None)


@pytest.mark.anyio
async def test_b127_failing_handler_is_retried_then_given_up(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Attempts 1, 2, 3 with growing delays inside the ±20 % band, never early; then failed."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS, max_retries=3)
    errors = [ValueError("first"), KeyError("second"), RuntimeError("third")]
    handler = await working(world, Recorder(*errors))
    message_id = await world.queue(QUEUE_NAME, {})
    for attempt, seconds in ((1, 1.0), (2, 2.0)):
        await handler.called(attempt)
        failed = await message_that(world, message_id, _pending_after(attempt))
        assert failed.last_error is not None
        assert type(errors[attempt - 1]).__name__ in str(failed.last_error["message"])
        delay = (failed.available_at - clock.now()).total_seconds()
        assert 0.8 * seconds <= delay <= 1.2 * seconds + 0.001
        clock.advance(delay - 0.001)
        assert await claim(world) == []
        await advance_until(clock, _called(handler, attempt + 1))
    dead = await message_in(world, message_id, "failed")
    assert handler.attempts == [1, 2, 3]
    assert (dead.attempt, dead.deliveries) == (3, 3)
    assert dead.last_error is not None
    assert "third" in str(dead.last_error["message"])
    marker = await world.queue(QUEUE_NAME, {}, delay_seconds=600)
    await advance_until(clock, lambda: marker in handler.ids, seconds=30)
    assert len(handler.deliveries) == 4


def _pending_after(attempt: int) -> Callable[[Message], bool]:
    return lambda message: message.status == "pending" and message.attempt == attempt + 1


def _called(handler: Recorder, times: int) -> Callable[[], bool]:
    return lambda: len(handler.deliveries) >= times


@pytest.mark.anyio
async def test_b127_handler_that_exits_is_a_failure(make_world: MakeWorld) -> None:
    """exit() in a handler fails its message, not the worker."""
    world = make_world(real_time=True, max_retries=1)
    await working(world, Recorder(SystemExit(3)))
    first = await world.queue(QUEUE_NAME, {})
    await message_in(world, first, "failed")
    second = await world.queue(QUEUE_NAME, {})
    await message_in(world, second, "completed")


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ThrottleError, TooEarlyError])
async def test_b127_error_with_retry_after_costs_no_attempt(
    make_world: MakeWorld, error: type[ThrottleError] | type[TooEarlyError]
) -> None:
    """The delay is at least what the error says, and the attempt's number stays."""
    world = make_world(real_time=True, max_retries=1)
    await working(world, Recorder(error("slow down", retry_after=30)))
    message_id = await world.queue(QUEUE_NAME, {})
    message = await message_that(world, message_id, lambda one: one.last_error is not None)
    assert (message.status, message.attempt, message.deliveries) == ("pending", 1, 1)
    assert message.available_at - message.updated_at >= timedelta(seconds=30)


@pytest.mark.anyio
async def test_b129_continuation_gives_all_attempts_back(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Two failures, a continuation, two failures, success: attempts 1 2 3 1 2 3."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS, max_retries=3)
    boom = RuntimeError("boom")
    handler = await working(
        world, Recorder(boom, boom, QueueContinuation(delay_seconds=5), boom, boom)
    )
    message_id = await world.queue(QUEUE_NAME, {"n": 1})
    await handler.called(1)
    await advance_until(clock, _called(handler, 6))
    assert handler.attempts == [1, 2, 3, 1, 2, 3]
    assert set(handler.ids) == {message_id}
    assert all(delivery.message == {"n": 1} for delivery in handler.deliveries)
    await message_in(world, message_id, "completed")


@pytest.mark.anyio
async def test_b129_continuation_without_delay_runs_again(make_world: MakeWorld) -> None:
    """timeoutSeconds 0 is a continuation, not the end."""
    world = make_world(real_time=True)
    again = QueueContinuation(delay_seconds=0)
    handler = await working(world, Recorder(*[again] * 20))
    message_id = await world.queue(QUEUE_NAME, {})
    await handler.called(21)
    await message_in(world, message_id, "completed")
    assert handler.attempts == [1] * 21


@pytest.mark.anyio
async def test_b129_continuation_of_another_shape_is_accepted(make_world: MakeWorld) -> None:
    """Anything with the two attributes counts; negative delays count as 0."""

    class Later:
        delay_seconds = -3
        idempotency_key = None

    async def later() -> Any:
        return Later()

    world = make_world(real_time=True)
    handler = await working(world, Recorder(later))
    message_id = await world.queue(QUEUE_NAME, {})
    await handler.called(2)
    await message_in(world, message_id, "completed")


@pytest.mark.anyio
async def test_b131_continuation_with_a_held_key_leaves_one_wake_up(
    make_world: MakeWorld,
) -> None:
    """Another unfinished message has the key: this one completes."""
    world = make_world(real_time=True)
    timer = await world.queue(
        QUEUE_NAME, {"runId": "wrun_1"}, idempotency_key="wait_1", delay_seconds=3600
    )
    handler = await working(
        world, Recorder(QueueContinuation(delay_seconds=3600, idempotency_key="wait_1"))
    )
    message_id = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    await message_in(world, message_id, "completed")
    assert handler.ids == [message_id]
    assert [one.message_id for one in await unfinished(world)] == [timer]


@pytest.mark.anyio
async def test_b132_continuation_with_the_messages_own_key_is_kept(
    make_world: MakeWorld,
) -> None:
    """The timer that asks for itself again is not lost."""
    world = make_world(real_time=True)
    handler = await working(
        world, Recorder(QueueContinuation(delay_seconds=0, idempotency_key="wait_1"))
    )
    message_id = await world.queue(QUEUE_NAME, {}, idempotency_key="wait_1")
    await handler.called(2)
    assert handler.ids == [message_id] * 2
    await message_in(world, message_id, "completed")


@pytest.mark.anyio
async def test_b135_concurrency_is_reached_and_respected(make_world: MakeWorld) -> None:
    """Four at a time of twelve, and a free slot is filled while slow handlers go on."""
    world = make_world(real_time=True, concurrency=4)
    in_flight = most = 0
    full, release, slow = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(until: asyncio.Event = release) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if in_flight == 4:
            full.set()
        try:
            await until.wait()
        finally:
            in_flight -= 1

    handler = await working(world, Recorder(lambda: work(slow), *[work] * 11))
    await asyncio.gather(*(world.queue(QUEUE_NAME, {"n": n}) for n in range(12)))
    await soon(full)
    counts = (await world.messages.stats()).counts[QUEUE_NAME]
    assert counts == {"processing": 4, "pending": 8}
    release.set()
    await handler.called(12)
    slow.set()
    await eventually(lambda: unfinished(world), lambda left: not left)
    assert most == 4


@pytest.mark.anyio
async def test_b136_many_due_messages_are_drained_without_polling(make_world: MakeWorld) -> None:
    """With an hour between polls, full claims and ended deliveries keep the worker going."""
    world = make_world(real_time=True, concurrency=20, poll_interval_ms=3_600_000)
    ids = await asyncio.gather(*(world.queue(QUEUE_NAME, {"n": n}) for n in range(MESSAGES)))
    handler = await working(world, Recorder())
    await handler.called(MESSAGES)
    await eventually(lambda: unfinished(world), lambda left: not left)
    assert sorted(handler.ids) == sorted(ids)


@pytest.mark.anyio
async def test_b136_message_of_this_world_wakes_its_worker(make_world: MakeWorld) -> None:
    """An enqueue is delivered without waiting for a poll."""
    world = make_world(real_time=True, poll_interval_ms=3_600_000)
    handler = await working(world, Recorder())
    for number in range(1, 6):
        await world.queue(QUEUE_NAME, {"n": number})
        await handler.called(number)


@pytest.mark.anyio
async def test_b136_message_falls_due_without_a_poll(make_world: MakeWorld) -> None:
    """The worker wakes when a delayed message falls due."""
    world = make_world(real_time=True, poll_interval_ms=3_600_000)
    handler = await working(world, Recorder())
    await world.queue(QUEUE_NAME, {}, delay_seconds=0.05)
    await handler.called(1)


@pytest.mark.anyio
async def test_b137_four_workers_share_the_work(make_world: MakeWorld) -> None:
    """1000 messages, four Worlds: each message is handled exactly once."""
    worlds = [make_world(real_time=True, poll_interval_ms=20) for _ in range(4)]
    ids = await asyncio.gather(
        *(worlds[n % 4].queue(QUEUE_NAME, {"n": n}) for n in range(MESSAGES))
    )
    handler = Recorder()
    for world in worlds:
        await working(world, handler)
    await handler.called(MESSAGES)
    await eventually(lambda: unfinished(worlds[0]), lambda left: not left)
    for world in worlds:
        await world.close()
    assert sorted(handler.ids) == sorted(ids)
    assert set(handler.attempts) == {1}


@pytest.mark.anyio
async def test_b138_handler_longer_than_the_lease_runs_once(make_world: MakeWorld) -> None:
    """The lease is renewed while the handler runs; another worker leaves it alone."""
    worlds = [
        make_world(real_time=True, lock_duration_ms=900, poll_interval_ms=20) for _ in range(2)
    ]
    gate = Gate()
    handler = Recorder(gate)
    await working(worlds[0], handler)
    message_id = await worlds[0].queue(QUEUE_NAME, {})
    await soon(gate.entered)
    await working(worlds[1], handler)
    first = await worlds[0].messages.get(message_id)
    assert first.leased_until is not None
    renewed = first.leased_until + timedelta(milliseconds=1000)
    await message_that(
        worlds[0],
        message_id,
        lambda one: one.leased_until is not None and one.leased_until >= renewed,
    )
    gate.opened.set()
    done = await message_in(worlds[0], message_id, "completed")
    assert (len(handler.deliveries), done.deliveries) == (1, 1)


@pytest.mark.anyio
async def test_b138_handler_that_blocks_the_loop_keeps_its_lease(
    make_world: MakeWorld,
) -> None:
    """The heartbeat has a thread of its own: a CPU-bound step is not delivered twice."""
    world = make_world(real_time=True, lock_duration_ms=900)
    rival = make_world(real_time=True)
    await rival.backend.open()
    blocked, stolen = threading.Event(), list[Message]()

    async def steal() -> None:
        while not blocked.is_set():
            stolen.extend(await claim(rival))
            await asyncio.sleep(0.02)

    async def compute() -> None:
        # Its own loop in its own thread: this test's loop stands still meanwhile.
        thief = threading.Thread(target=asyncio.run, args=(steal(),))
        thief.start()
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            sum(range(1000))
        blocked.set()
        thief.join()

    handler = await working(world, Recorder(compute))
    message_id = await world.queue(QUEUE_NAME, {})
    done = await message_in(world, message_id, "completed")
    assert stolen == []
    assert (len(handler.deliveries), done.deliveries) == (1, 1)


@pytest.mark.anyio
async def test_b153_health_check_is_answered_on_its_stream(make_world: MakeWorld) -> None:
    """Delivered like any message; the answer's stream needs no run."""
    world = make_world(real_time=True)
    run_id, name = "wrun_hc_c1", "__health_check__c1"

    async def answer() -> None:
        await world.streams.write(run_id, name, b"healthy")
        await world.streams.close(run_id, name)

    handler = await working(world, Recorder(answer))
    await world.queue(QUEUE_NAME, {"__healthCheck": True, "correlationId": "c1", "runId": "wrun_x"})
    await handler.called(1)
    async with asyncio.timeout(PATIENCE_S):
        assert [chunk async for chunk in world.streams.get(run_id, name)] == [b"healthy"]
    assert await world.runs.get_many([run_id, "wrun_x"]) == [None, None]


@pytest.mark.anyio
async def test_b154_longest_prefix_wins(make_world: MakeWorld) -> None:
    """Two handlers match: the more particular one is called, in either order of registering."""
    world = make_world(real_time=True)
    general, special, step = Recorder(), Recorder(), Recorder()
    world.create_queue_handler(PREFIX, general)
    world.create_queue_handler(f"{PREFIX}special", special)
    world.create_queue_handler("__wkf_step_", step)
    await world.start()
    for name in (f"{PREFIX}special_one", f"{PREFIX}spec", STEP_QUEUE_NAME):
        await world.queue(name, {})
    for handler, name in (
        (special, f"{PREFIX}special_one"),
        (general, f"{PREFIX}spec"),
        (step, STEP_QUEUE_NAME),
    ):
        await handler.called(1)
        assert [one.queue_name for one in handler.deliveries] == [name]


@pytest.mark.anyio
async def test_b154_same_prefix_again_replaces_the_handler(make_world: MakeWorld) -> None:
    """The latest registration counts, also while the worker runs."""
    world = make_world(real_time=True)
    first = await working(world, Recorder())
    await world.queue(QUEUE_NAME, {})
    await first.called(1)
    second = Recorder()
    world.create_queue_handler(PREFIX, second)
    await world.queue(QUEUE_NAME, {})
    await second.called(1)
    assert len(first.deliveries) == 1


@pytest.mark.anyio
async def test_b154_queues_of_others_are_left_to_them(make_world: MakeWorld) -> None:
    """A worker with handlers takes only their queues; another worker's handler gets the rest."""
    flows = make_world(real_time=True, poll_interval_ms=20)
    steps = make_world(real_time=True, poll_interval_ms=20)
    flow = await working(flows, Recorder())
    step_id = await flows.queue(STEP_QUEUE_NAME, {})
    await flows.queue(QUEUE_NAME, {})
    await flow.called(1)
    assert (await flows.messages.get(step_id)).deliveries == 0
    step = await working(steps, Recorder(), "__wkf_step_")
    await step.called(1)
    assert step.ids == [step_id]


@pytest.mark.anyio
async def test_b154_handler_registered_after_start_is_used(make_world: MakeWorld) -> None:
    """delivery="inprocess": messages wait for their handler and consume nothing."""
    world = make_world(real_time=True, delivery="inprocess", poll_interval_ms=3_600_000)
    await world.start()
    message_id = await world.queue(QUEUE_NAME, {})
    handler = Recorder()
    world.create_queue_handler(PREFIX, handler)
    await handler.called(1)
    assert handler.attempts == [1]
    assert (await message_in(world, message_id, "completed")).deliveries == 1


@pytest.mark.anyio
async def test_b158_another_worlds_message_is_picked_up(make_world: MakeWorld) -> None:
    """Enqueued in one World, handled in the other, both ways."""
    one = make_world(real_time=True, poll_interval_ms=20)
    two = make_world(real_time=True, poll_interval_ms=20)
    handler = await working(one, Recorder())
    for number in range(1, 4):
        await two.queue(QUEUE_NAME, {"n": number})
        await handler.called(number)
    await one.close()
    await working(two, handler)
    await two.queue(QUEUE_NAME, {"n": 4})
    await handler.called(4)


@pytest.mark.anyio
async def test_b159_replays_of_one_run_never_overlap(make_world: MakeWorld) -> None:
    """Two workers, one run: its messages one after the other, its steps meanwhile."""
    worlds = [make_world(real_time=True, poll_interval_ms=20) for _ in range(2)]
    replays, most = 0, 0

    async def replay() -> None:
        nonlocal replays, most
        replays += 1
        most = max(most, replays)
        await asyncio.sleep(0.001)
        replays -= 1

    gate = Gate()
    flow, step = Recorder(gate, *[replay] * 20), Recorder()
    for world in worlds:
        world.create_queue_handler(PREFIX, flow)
        world.create_queue_handler("__wkf_step_", step)
    ids = [
        await worlds[0].queue(QUEUE_NAME, {"runId": "wrun_1", "runInput": {"n": n}})
        for n in range(10)
    ]
    for world in worlds:
        await world.start()
    await soon(gate.entered)
    await worlds[1].queue(STEP_QUEUE_NAME, {"runId": "wrun_1", "stepId": "step_1"})
    await step.called(1)
    assert flow.ids == [ids[0]]
    gate.opened.set()
    await flow.called(10)
    assert most == 1
    assert sorted(flow.ids) == sorted(ids)


@pytest.mark.anyio
async def test_b159_serialize_runs_can_be_switched_off(make_world: MakeWorld) -> None:
    """Off: two messages of one run are handled at once."""
    world = make_world(real_time=True, serialize_runs=False)
    gates = [Gate(), Gate()]
    await working(world, Recorder(*gates))
    for number in range(2):
        await world.queue(QUEUE_NAME, {"runId": "wrun_1", "runInput": {"n": number}})
    for gate in gates:
        await soon(gate.entered)
    for gate in gates:
        gate.opened.set()


@pytest.mark.anyio
async def test_b123_worker_is_never_early(make_world: MakeWorld, clock: ManualClock) -> None:
    """By the World's own clock, a handler sees its message due, to the millisecond."""
    world = make_world(lock_duration_ms=LONG_LEASE_MS)
    early = list[str]()

    async def look() -> None:
        message = await world.messages.get(handler.ids[-1])
        if clock.now() < message.available_at:
            early.append(message.message_id)

    handler = Recorder(*[look] * 20)
    await working(world, handler)
    for number in range(20):
        await world.queue(QUEUE_NAME, {"n": number}, delay_seconds=0.3 + number * 0.017)
    assert handler.deliveries == []
    await advance_until(clock, _called(handler, 20), seconds=MILLISECOND.total_seconds() * 7)
    await eventually(lambda: unfinished(world), lambda left: not left)
    assert early == []


@pytest.mark.anyio
async def test_worker_survives_an_undecodable_message(make_world: MakeWorld, world: World) -> None:
    """A body that is no CBOR fails its message, and the next one is delivered."""
    from .queue_helpers import put

    worker = make_world(real_time=True)
    bad = await put(worker, payload=b"\xff\xff", max_attempts=1)
    handler = await working(worker, Recorder())
    good = await worker.queue(QUEUE_NAME, {})
    await message_in(worker, bad, "failed")
    await message_in(worker, good, "completed")
    assert handler.ids == [good]
