"""The worker with handlers in this process: results and retries (B123 to B132, B153)."""

from __future__ import annotations

import asyncio
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
    Recorder,
    advance_until,
    claim,
    eventually,
    message_in,
    message_that,
    unfinished,
    working,
)


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
@pytest.mark.parametrize("key", ["a\0b", "\ud800", "k" * 513])
async def test_b129_key_that_cannot_be_stored_fails_its_message_alone(
    make_world: MakeWorld, key: str
) -> None:
    """Messages that are settled at the same time are not held up."""
    world = make_world(real_time=True, lock_duration_ms=LONG_LEASE_MS, max_retries=1)
    came, calls = asyncio.Event(), list[object]()

    async def handler(message: Any, **_: object) -> QueueContinuation | None:
        calls.append(message["n"])
        if len(calls) == 3:
            came.set()
        await came.wait()
        return None if message["n"] else QueueContinuation(delay_seconds=1, idempotency_key=key)

    world.create_queue_handler(PREFIX, handler)
    ids = [await world.queue(QUEUE_NAME, {"n": n}) for n in range(3)]
    await world.start()
    failed = await message_in(world, ids[0], "failed")
    assert failed.last_error is not None
    assert "idempotency key" in str(failed.last_error["message"])
    for message_id in ids[1:]:
        await message_in(world, message_id, "completed")
    assert sorted(map(str, calls)) == ["0", "1", "2"]


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


@pytest.mark.anyio
@pytest.mark.parametrize("result", ["done", 0, QueueContinuation(delay_seconds=None)])  # type: ignore[arg-type]
async def test_nonsense_from_a_handler_is_a_failed_attempt(
    make_world: MakeWorld, result: object
) -> None:
    """Neither None nor a continuation: the message fails, it is not held for ever."""

    async def nonsense() -> object:
        return result

    world = make_world(real_time=True)
    await working(world, Recorder(nonsense))
    message_id = await world.queue(QUEUE_NAME, {})
    message = await message_that(world, message_id, lambda one: one.last_error is not None)
    assert (message.status, message.attempt) == ("pending", 2)


@pytest.mark.anyio
async def test_handler_whose_own_work_was_cancelled_is_a_failed_attempt(
    make_world: MakeWorld,
) -> None:
    """A cancellation that is not the worker's own fails the message, and the lease is let go."""

    async def work() -> None:
        task = asyncio.create_task(asyncio.sleep(3600))
        task.cancel()
        await task

    world = make_world(real_time=True)
    await working(world, Recorder(work))
    message_id = await world.queue(QUEUE_NAME, {})
    message = await message_that(world, message_id, lambda one: one.last_error is not None)
    assert (message.status, message.attempt) == ("pending", 2)
