"""Workers that share: concurrency, several Worlds, prefixes, runs (B135 to B159)."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from ...core.entities import Message
from .fixtures import MakeWorld
from .queue_helpers import (
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Gate,
    Recorder,
    claim,
    eventually,
    lease_is_extended,
    message_in,
    soon,
    unfinished,
    working,
)

MESSAGES = 1000


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
    await lease_is_extended(worlds[0], message_id)
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
