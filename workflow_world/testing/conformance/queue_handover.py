"""Messages that a worker takes in the transaction that stores them (design 7; B136, B137, B159)."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from ...backend import Enqueued
from ...core.delivery import Done
from ...signals import QUEUE
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    LEASE,
    MILLISECOND,
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Gate,
    Recorder,
    a_message,
    claim,
    claim_one,
    end,
    message_in,
    put,
    soon,
    store_of,
    working,
)
from .watched import Watched

NOTE: ContextVar[str] = ContextVar("workflow_world_conformance_note", default="nothing")


async def hand_over(world: World, *, serialize_runs: bool = True, **fields: Any) -> Enqueued:
    """Enqueue and claim at the seam."""
    store = await store_of(world)
    return await store.enqueue_and_claim(
        a_message(**fields), lease=LEASE, serialize_runs=serialize_runs
    )


@pytest.mark.anyio
async def test_b137_new_message_is_claimed_as_it_is_stored(
    world: World, rival: World, clock: ManualClock
) -> None:
    """The row is that of a claimed message, and nobody else can claim it."""
    done = await hand_over(world, run_id="wrun_1", headers={"x": "y"})
    claimed = done.claimed
    assert claimed is not None
    assert claimed.message_id == done.message_id
    assert claimed == await rival.messages.get(done.message_id)
    assert (claimed.status, claimed.attempt, claimed.deliveries) == ("processing", 1, 1)
    assert (claimed.claimed_at, claimed.leased_until) == (clock.now(), clock.now() + LEASE)
    assert claimed.created_at == claimed.updated_at == claimed.available_at == clock.now()
    assert claimed.lease_token
    assert await claim(rival) == []
    assert await end(world, claimed, Done(), clock.now())


@pytest.mark.anyio
async def test_b137_two_claims_have_two_tokens(world: World) -> None:
    """A token is the proof of one claim."""
    first, second = await hand_over(world), await hand_over(world)
    assert first.claimed is not None
    assert second.claimed is not None
    assert first.claimed.lease_token != second.claimed.lease_token


@pytest.mark.anyio
async def test_b137_lease_of_a_message_taken_at_once_runs_out(
    world: World, rival: World, clock: ManualClock
) -> None:
    """Whoever took it and died: the message comes again, as its second delivery."""
    done = await hand_over(world)
    clock.advance(LEASE.total_seconds())
    again = await claim_one(rival, done.message_id)
    assert (again.attempt, again.deliveries) == (1, 2)
    assert done.claimed is not None
    assert not await end(world, done.claimed, Done(), clock.now())


@pytest.mark.anyio
async def test_b137_message_that_is_not_due_is_only_stored(
    world: World, clock: ManualClock
) -> None:
    """By delay or by date."""
    later = clock.now() + MILLISECOND
    cases: list[dict[str, Any]] = [{"delay": MILLISECOND}, {"available_at": later}]
    for fields in cases:
        done = await hand_over(world, **fields)
        assert done.claimed is None
        assert (await world.messages.get(done.message_id)).status == "pending"
    assert len(await claim(world)) == 0


@pytest.mark.anyio
async def test_b137_found_message_is_not_claimed(world: World, clock: ManualClock) -> None:
    """A holder of the key, pending, leased or just completed; a pending wake-up of the run."""
    key: dict[str, Any] = {"idempotency_key": "k", "key_ttl": timedelta(seconds=5)}
    first = await put(world, **key)
    assert await hand_over(world, **key) == Enqueued(message_id=first)
    message = await claim_one(world, first)
    assert await hand_over(world, **key) == Enqueued(message_id=first)
    assert await end(world, message, Done(), clock.now())
    assert await hand_over(world, **key) == Enqueued(message_id=first)
    wake_up = await put(world, run_id="wrun_1", is_wake_up=True)
    found = await hand_over(world, run_id="wrun_1", is_wake_up=True)
    assert found == Enqueued(message_id=wake_up)


@pytest.mark.anyio
async def test_b159_replay_is_not_taken_beside_another(
    world: World, rival: World, clock: ManualClock
) -> None:
    """While a replay of the run is leased a second one waits; steps and other runs do not."""
    first = await hand_over(world, run_id="wrun_1")
    assert first.claimed is not None
    second = await hand_over(rival, run_id="wrun_1")
    assert second.claimed is None
    others: list[dict[str, Any]] = [{"run_id": "wrun_1", "step_id": "s"}, {"run_id": "wrun_2"}, {}]
    for fields in others:
        assert (await hand_over(rival, **fields)).claimed is not None
    assert (await hand_over(rival, run_id="wrun_1", serialize_runs=False)).claimed is not None
    assert await end(world, first.claimed, Done(), clock.now())
    clock.advance(LEASE.total_seconds())
    assert (await hand_over(rival, run_id="wrun_1")).claimed is not None


@pytest.mark.anyio
async def test_b159_end_of_a_replay_notifies_who_was_held_back(
    monkeypatch: pytest.MonkeyPatch, world: World, clock: ManualClock
) -> None:
    """Only then: a replay that nobody waits for ends in silence."""
    store, notifier, told = await store_of(world), world.backend.notifier, list[str]()
    notify = notifier.notify

    def noting(topic: str) -> None:
        told.append(topic)
        notify(topic)

    async def is_silent() -> bool:
        # Where somebody listens to other processes, a subscription may wake for nothing.
        if world.backend.capabilities.notifies_processes:
            return QUEUE not in told
        return not await subscription.wait(0)

    monkeypatch.setattr(notifier, "notify", noting)
    replay = await hand_over(world, run_id="wrun_1")
    held_back = await hand_over(world, run_id="wrun_1")
    step = await hand_over(world, run_id="wrun_1", step_id="step_1")
    assert replay.claimed is not None
    assert step.claimed is not None
    subscription = notifier.subscribe(QUEUE)
    try:
        told.clear()
        assert await end(world, step.claimed, Done(), clock.now())
        assert await is_silent()
        assert await end(world, replay.claimed, Done(), clock.now())
        assert await subscription.wait(0)
        last = await claim_one(world, held_back.message_id, serialize_runs=True)
        await store.enqueue(a_message(run_id="wrun_1", delay=MILLISECOND))
        await subscription.wait(0)
        told.clear()
        assert await end(world, last, Done(), clock.now())
        assert await is_silent()
    finally:
        subscription.close()


@pytest.mark.anyio
async def test_b136_free_worker_takes_its_worlds_messages_without_a_claim(
    make_world: MakeWorld,
) -> None:
    """Hundred in a row: after the first look of the worker no claim takes any."""
    watched = Watched()
    world = make_world(wrap=watched.around)
    handler = Recorder()
    await working(world, handler)
    for number in range(100):
        message_id = await world.queue(QUEUE_NAME, {"n": number})
        await handler.called(number + 1)
        await message_in(world, message_id, "completed")
    taken = [call for call in watched.calls if call.verb == "messages.claim"]
    assert sum(len(call.result.messages) for call in taken) == 0
    assert watched.asked.count("messages.enqueue_and_claim") == 100


@pytest.mark.anyio
async def test_b135_taken_messages_count_against_the_concurrency(make_world: MakeWorld) -> None:
    """Thirty at once for three slots: never more than three in flight, all of them in the end."""
    world = make_world(real_time=True, concurrency=3)
    flying, most, full = 0, 0, asyncio.Event()

    async def fly() -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        if flying == 3:
            full.set()
        await soon(full)
        flying -= 1

    handler = Recorder(*[fly] * 30)
    await working(world, handler)
    await asyncio.gather(*[world.queue(QUEUE_NAME, {"n": number}) for number in range(30)])
    await handler.called(30)
    assert most == 3


@pytest.mark.anyio
async def test_b154_worker_takes_no_message_of_other_queues(make_world: MakeWorld) -> None:
    """A queue that has no handler here is left to whoever has one."""
    world = make_world()
    await working(world, Recorder())
    message_id = await world.queue(STEP_QUEUE_NAME, {})
    assert (await world.messages.get(message_id)).status == "pending"


@pytest.mark.anyio
async def test_b137_cancelled_caller_leaves_no_lease_behind(make_world: MakeWorld) -> None:
    """What was stored is delivered, whoever stopped waiting for the id."""
    world = make_world(real_time=True)
    handler = Recorder()
    await working(world, handler)
    tasks = [asyncio.create_task(world.queue(QUEUE_NAME, {"n": n})) for n in range(10)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Closing waits for what is still being written for them, and for its deliveries.
    await world.close()
    stored = (await make_world().messages.list(limit=100)).data
    delivered = [message for message in stored if message.status == "completed"]
    assert sorted(handler.ids) == sorted(message.message_id for message in delivered)
    assert {message.status for message in stored} <= {"completed", "pending"}


@pytest.mark.anyio
async def test_b142_message_enqueued_while_closing_is_left_to_others(
    make_world: MakeWorld,
) -> None:
    """A handler that is waited for at close may still enqueue: the next World delivers it."""
    world, later = make_world(real_time=True), make_world(real_time=True)
    gate, sent = Gate(), list[str]()

    async def send() -> None:
        await gate()
        sent.append(await world.queue(QUEUE_NAME, {"n": 2}))

    handler = Recorder(send)
    await working(world, handler)
    await world.queue(QUEUE_NAME, {"n": 1})
    await soon(gate.entered)
    closing = asyncio.create_task(world.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    assert len(handler.deliveries) == 1
    if world.backend.capabilities.durable:
        assert (await later.messages.get(sent[0])).status == "pending"


@pytest.mark.anyio
async def test_b126_handler_sees_no_variables_of_who_enqueued(make_world: MakeWorld) -> None:
    """Context variables of the sender stay with the sender."""
    world = make_world(real_time=True)
    seen: list[str] = []

    async def look() -> None:
        seen.append(NOTE.get())

    async def send() -> None:
        NOTE.set("of the first handler")
        await world.queue(QUEUE_NAME, {"n": 2})

    handler = Recorder(send, look)
    world.create_queue_handler(PREFIX, handler)
    await world.start()
    token = NOTE.set("of the caller")
    try:
        await world.queue(QUEUE_NAME, {"n": 1})
    finally:
        NOTE.reset(token)
    await handler.called(2)
    assert seen == ["nothing"]
