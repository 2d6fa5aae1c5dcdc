"""Claims and leases (B133, B138 to B141, B159), at the seam."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from ...backend import Lease
from ...core.delivery import Again, Done, Limits, Released, dead, given_up
from ...core.entities import Message
from ...world import World
from ..clock import START, ManualClock
from .queue_helpers import (
    LEASE,
    STEP_QUEUE_NAME,
    claim,
    claim_one,
    claimed_ids,
    end,
    put,
    store_of,
)


def lease_of(message: Message) -> Lease:
    assert message.lease_token is not None
    return Lease(message_id=message.message_id, token=message.lease_token)


@pytest.mark.anyio
async def test_claim_takes_the_longest_due_first(world: World, clock: ManualClock) -> None:
    """Order of ``available_at``, then of the id, up to the limit."""
    late = await put(world, message_id="msg_1", available_at=START - timedelta(seconds=1))
    same = [
        await put(world, message_id=f"msg_{number}", available_at=START - timedelta(seconds=2))
        for number in (4, 2, 3)
    ]
    early = await put(world, message_id="msg_5", available_at=START - timedelta(seconds=3))
    assert await claimed_ids(world, limit=2) == [early, "msg_2"]
    assert await claimed_ids(world, limit=9) == ["msg_3", "msg_4", late]
    assert sorted(same) == ["msg_2", "msg_3", "msg_4"]
    assert await claimed_ids(world) == []


@pytest.mark.anyio
async def test_claim_leases_each_message(world: World, clock: ManualClock) -> None:
    """A token of its own, the lease's end, the time of the claim, one more delivery."""
    await put(world)
    await put(world)
    clock.advance(1)
    first, second = await claim(world, lease=timedelta(seconds=7))
    for message in (first, second):
        assert message.status == "processing"
        assert message.leased_until == clock.now() + timedelta(seconds=7)
        assert message.claimed_at == clock.now()
        assert (message.attempt, message.deliveries) == (1, 1)
        assert await world.messages.get(message.message_id) == message
    assert first.lease_token
    assert first.lease_token != second.lease_token


@pytest.mark.anyio
async def test_claim_takes_only_the_prefixes_asked_for(world: World) -> None:
    """None means all; prefixes are exact text, without wildcards."""
    flow = await put(world, queue_name="__wkf_workflow_a")
    step = await put(world, queue_name="__wkf_step_a")
    spaced = await put(world, queue_name="__ns_wkf_workflow_a")
    odd = await put(world, queue_name="__wkfXworkflow_a")
    assert await claimed_ids(world, prefixes=["__wkf_workflow_"]) == [flow]
    assert await claimed_ids(world, prefixes=["__%", "__wkf\\_"]) == []
    assert await claimed_ids(world, prefixes=["__ns_wkf_workflow_", "__wkf_step_"]) == [
        step,
        spaced,
    ]
    assert await claimed_ids(world, prefixes=None) == [odd]


@pytest.mark.anyio
async def test_claim_names_the_next_due_time(world: World, clock: ManualClock) -> None:
    """When the next pending message or expiring lease is ready; never later than that."""
    store = await store_of(world)

    async def next_due_at(prefixes: list[str] | None = None) -> datetime | None:
        found = await store.claim(limit=1, lease=LEASE, serialize_runs=False, prefixes=prefixes)
        return found.next_due_at

    assert await next_due_at() is None
    await put(world, delay=timedelta(seconds=50), queue_name=STEP_QUEUE_NAME)
    await put(world, delay=timedelta(seconds=40))
    due = await next_due_at()
    assert due is not None
    assert START < due <= START + timedelta(seconds=40)
    other = await next_due_at(["__wkf_step_"])
    assert other is not None
    assert START < other <= START + timedelta(seconds=50)
    await put(world)
    leased = await next_due_at()
    assert leased is not None
    assert START < leased <= START + LEASE


@pytest.mark.anyio
async def test_two_claimers_never_take_the_same_message(world: World, rival: World) -> None:
    """Racing claims in two Worlds: every message is taken once."""
    ids = [await put(world) for _ in range(40)]
    rounds = await asyncio.gather(
        *(claimed_ids((world, rival)[number % 2], limit=7) for number in range(12))
    )
    taken = [message_id for one in rounds for message_id in one]
    assert sorted(taken) == sorted(ids)


@pytest.mark.anyio
async def test_b133_unacknowledged_message_is_delivered_again(
    world: World, rival: World, clock: ManualClock
) -> None:
    """The handler ended, the worker died before it settled: the lease's end gives it back."""
    message_id = await put(world)
    first = await claim_one(world, message_id)
    clock.advance(LEASE.total_seconds() - 0.001)
    assert await claim(rival) == []
    clock.advance(0.001)
    second = await claim_one(rival, message_id)
    assert (second.attempt, second.deliveries) == (1, 2)
    assert (second.payload, second.run_id) == (first.payload, first.run_id)
    assert second.lease_token != first.lease_token


@pytest.mark.anyio
async def test_b139_expired_leases_are_reaped(
    world: World, rival: World, clock: ManualClock
) -> None:
    """Back to pending: attempt, deliveries and due time stay. Live leases are untouched."""
    old = await put(world)
    claimed = await claim_one(world, old)
    clock.advance(20)
    young = await put(world)
    live = await claim_one(world, young)
    clock.advance(10)
    store = await store_of(rival)
    assert await store.reap() == 1
    freed = await world.messages.get(old)
    assert freed.status == "pending"
    assert (freed.lease_token, freed.leased_until) == (None, None)
    assert (freed.attempt, freed.deliveries) == (1, 1)
    assert freed.available_at == claimed.available_at
    assert await world.messages.get(young) == live
    assert await store.reap() == 0
    assert (await claim_one(rival, old)).deliveries == 2


@pytest.mark.anyio
async def test_b138_extended_lease_stays_live(
    world: World, rival: World, clock: ManualClock
) -> None:
    """Renewed from now; a lost one is named and stays as it is."""
    kept, lost = await put(world), await put(world)
    held = {message.message_id: message for message in await claim(world)}
    store = await store_of(world)
    clock.advance(20)
    leases = [lease_of(held[kept])]
    assert await asyncio.to_thread(store.extend, leases, LEASE) == frozenset()
    assert (await world.messages.get(kept)).leased_until == clock.now() + LEASE
    clock.advance(15)
    taken = await claim_one(rival, lost)
    leases = [lease_of(held[kept]), lease_of(held[lost])]
    assert await asyncio.to_thread(store.extend, leases, LEASE) == {lost}
    assert await world.messages.get(lost) == taken
    assert (await world.messages.get(kept)).leased_until == clock.now() + LEASE
    assert await asyncio.to_thread(store.extend, [], LEASE) == frozenset()


@pytest.mark.anyio
async def test_lease_of_a_finished_message_cannot_be_extended(
    world: World, clock: ManualClock
) -> None:
    """A beat that comes after the settlement changes nothing."""
    message_id = await put(world)
    message = await claim_one(world, message_id)
    assert await end(world, message, Done(), clock.now())
    store = await store_of(world)
    assert await asyncio.to_thread(store.extend, [lease_of(message)], LEASE) == {message_id}
    assert (await world.messages.get(message_id)).leased_until is None


@pytest.mark.anyio
async def test_b141_deliveries_without_an_end_are_counted(world: World, clock: ManualClock) -> None:
    """Each claim counts, through reaping too, until the message has to be given up."""
    message_id = await put(world)
    limits = Limits(max_deliveries=3)
    store = await store_of(world)
    for delivery in range(1, 4):
        message = await claim_one(world, message_id)
        assert message.deliveries == delivery
        assert given_up(message, limits) is None
        clock.advance(31)
        if delivery == 2:
            assert await store.reap() == 1
    message = await claim_one(world, message_id)
    reason = given_up(message, limits)
    assert reason is not None
    assert [*await store.settle([(dead(message, reason, clock.now()), None)])] == [True]
    failed = await world.messages.get(message_id)
    assert (failed.status, failed.processed_at) == ("failed", clock.now())
    assert failed.last_error is not None
    assert failed.last_error["message"] == reason


@pytest.mark.anyio
async def test_b159_one_replay_of_a_run_at_a_time(
    world: World, rival: World, clock: ManualClock
) -> None:
    """A run's message is passed over while another is in a live lease, or in this claim."""
    first = await put(world, message_id="msg_1", run_id="wrun_1")
    second = await put(world, message_id="msg_2", run_id="wrun_1")
    step = await put(world, message_id="msg_3", run_id="wrun_1", step_id="step_1")
    other = await put(world, message_id="msg_4", run_id="wrun_2")
    loose = [await put(world, message_id=f"msg_{number}") for number in (5, 6)]
    messages = await claim(world, serialize_runs=True)
    assert [one.message_id for one in messages] == [first, step, other, *loose]
    assert await claim(rival, serialize_runs=True) == []
    more = await put(world, run_id="wrun_1", step_id="step_2")
    await claim_one(rival, more, serialize_runs=True)
    assert await end(world, messages[0], Done(), clock.now())
    await claim_one(rival, second, serialize_runs=True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "outcome",
    [Again(delay_seconds=0), Released()],
    ids=["continued", "released"],
)
async def test_b159_message_that_came_back_holds_nobody_back(
    world: World, clock: ManualClock, outcome: Again | Released
) -> None:
    """Only a live lease holds a run's other messages back."""
    await put(world, message_id="msg_2", run_id="wrun_1", available_at=START)
    message = await claim_one(world, "msg_2")
    other = await put(world, message_id="msg_1", run_id="wrun_1", available_at=START)
    assert await claim(world, serialize_runs=True) == []
    assert await end(world, message, outcome, clock.now())
    await claim_one(world, other, serialize_runs=True)


@pytest.mark.anyio
async def test_b159_expired_lease_holds_nobody_back(world: World, clock: ManualClock) -> None:
    """A dead worker's message and the run's next one: one of them at a time, the older first."""
    first = await put(world, message_id="msg_1", run_id="wrun_1")
    await claim_one(world, first)
    second = await put(world, message_id="msg_2", run_id="wrun_1")
    clock.advance(31)
    again = await claim_one(world, first, serialize_runs=True)
    assert await end(world, again, Done(), clock.now())
    await claim_one(world, second, serialize_runs=True)


@pytest.mark.anyio
async def test_b159_held_back_messages_take_no_place(world: World) -> None:
    """A limit is filled with what may be taken, however many are passed over before it."""
    for number in range(30):
        await put(world, message_id=f"msg_a{number:02}", run_id="wrun_1")
    others = [await put(world, message_id=f"msg_b{number}") for number in range(3)]
    taken = await claimed_ids(world, limit=3, serialize_runs=True)
    assert taken == ["msg_a00", *others[:2]]


@pytest.mark.anyio
async def test_b159_without_serialize_runs_all_are_taken(world: World) -> None:
    """Off: messages of one run are claimed together."""
    ids = [await put(world, run_id="wrun_1") for _ in range(3)]
    assert await claimed_ids(world, serialize_runs=False) == ids


@pytest.mark.anyio
async def test_presence_of_one_worker_keeps_its_leases(
    world: World, rival: World, clock: ManualClock
) -> None:
    """A starting worker frees leases only when it is provably alone."""
    store, other = await store_of(world), await store_of(rival)
    message_id = await put(world)
    first = await store.enter()
    try:
        held = await claim_one(world, message_id)
        second = await other.enter()
        second.close()
        second.close()
        assert await world.messages.get(message_id) == held
    finally:
        first.close()
    third = await other.enter()
    try:
        clock.advance(31)
        await claim_one(rival, message_id)
    finally:
        third.close()
