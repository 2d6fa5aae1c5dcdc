"""What the sweep rests on, at the seam: stranded runs, and sending what is missing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ...core.recovery import WakeUp
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .helpers import (
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
)
from .queue_helpers import (
    QUEUE_NAME,
    a_message,
    exhaust,
    put,
    store_of,
)
from .recovery import GRACE_S, only_message, replay, sweep


@pytest.mark.anyio
async def test_start_pass_wakes_running_runs_without_a_message(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Only at start, only with recover_active_runs, and only once."""
    world = make_world()
    spared = make_world(recover_active_runs=False)
    await start_run(world)
    await replay(world, clock)
    clock.advance(3600)
    assert await sweep(world, clock) == 0
    assert await sweep(spared, clock, at_start=True) == 0
    assert await sweep(world, clock, at_start=True) == 1
    assert await sweep(world, clock, at_start=True) == 0


@pytest.mark.anyio
async def test_b165_stored_namespace_is_used(make_world: MakeWorld, clock: ManualClock) -> None:
    """The run's own namespace, then the option, then none."""
    world, spaced = make_world(), make_world(queue_namespace="option")
    for run_id in ("wrun_1", "wrun_2"):
        await create_run(world, run_id, executionContext={"queueNamespace": "own"})
    for run_id in ("wrun_3", "wrun_4"):
        await create_run(world, run_id, executionContext={"other": 1})
    clock.advance(GRACE_S)
    assert await sweep(spaced, clock) == 4
    names = {run_id: (await only_message(world, run_id)).queue_name for run_id in _four()}
    assert names["wrun_1"] == names["wrun_2"] == "__own_wkf_workflow_greet"
    assert names["wrun_3"] == names["wrun_4"] == "__option_wkf_workflow_greet"


def _four() -> list[str]:
    return [f"wrun_{number}" for number in (1, 2, 3, 4)]


@pytest.mark.anyio
async def test_b166_workers_that_sweep_at_once_send_once(
    world: World, rival: World, clock: ManualClock
) -> None:
    """Runs and steps: one message each, however many look."""
    for number in range(10):
        await create_run(world, f"wrun_p{number}")
        await start_run(world, f"wrun_r{number}")
        await create_step(world, f"wrun_r{number}", f"step_{number}")
    clock.advance(GRACE_S)
    sent = await asyncio.gather(*(sweep(one, clock) for one in (world, rival, world, rival)))
    assert sum(sent) == 20
    messages = (await world.messages.list()).data
    assert len({(one.run_id, one.step_id) for one in messages}) == len(messages) == 20


@pytest.mark.anyio
async def test_sweep_reaches_every_run(world: World, clock: ManualClock) -> None:
    """More runs than fit one page: all are found, those in between that need nothing are not."""
    names = [f"wrun_{number:04}" for number in range(230)]
    for group in range(0, len(names), 10):
        await asyncio.gather(*(create_run(world, name) for name in names[group : group + 10]))
    busy = set(names[::7])
    await asyncio.gather(*(put(world, run_id=name) for name in busy))
    clock.advance(GRACE_S)
    assert await sweep(world, clock) == len(names) - len(busy)
    page = await world.messages.list(limit=1000)
    assert sorted(str(one.run_id) for one in page.data) == names


@pytest.mark.anyio
async def test_stranded_is_paged_by_run_id(world: World, clock: ManualClock) -> None:
    """Each candidate once, in order, from behind the id given; None at the end."""
    for number in (3, 1, 2):
        await create_run(world, f"wrun_{number}")
    seen: list[str] = []
    after: str | None = None
    for _ in range(10):
        facts, after = await world.backend.runs.stranded(after=after, limit=1)
        assert len(facts) <= 1
        seen.extend(one.run.run_id for one in facts)
        if after is None:
            break
    assert seen == ["wrun_1", "wrun_2", "wrun_3"]
    assert after is None


@pytest.mark.anyio
async def test_stranded_tells_the_facts_of_a_run(world: World, clock: ManualClock) -> None:
    """What the rules of spec 4.10 rest on, read back."""
    await start_run(world)
    clock.advance(1)
    await replay(world, clock)
    claimed_at = clock.now()
    clock.advance(1)
    await create_hook(world)
    await receive(world)
    received_at = clock.now()
    await create_wait(world, resume_at=SOON)
    await create_wait(world, wait_id="wait_2", resume_at=SOON + timedelta(seconds=1))
    clock.advance(1)
    await create_step(world)
    (facts,), after = await world.backend.runs.stranded(after=None, limit=10)
    assert after is None
    assert (facts.run.run_id, facts.run.status) == (RUN, "running")
    assert not facts.has_message
    assert facts.last_claim_at == claimed_at
    assert facts.last_waking_at == received_at
    assert facts.next_due_at == SOON
    assert (facts.has_hook, facts.has_open_step) == (True, True)
    (step,) = facts.stranded
    assert (step.step_id, step.step_name, step.retry_after) == ("step_1", "add", None)
    assert step.updated_at == clock.now()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "reason", ["unknown run", "ended run", "unfinished message", "final step", "failed message"]
)
async def test_wake_looks_again_before_it_sends(
    world: World, clock: ManualClock, reason: str
) -> None:
    """What the sweep saw may have changed: nothing is sent when nothing is missing any more."""
    step_id = "step_1" if reason in ("final step", "failed message") else None
    if reason != "unknown run":
        await start_run(world)
        await create_step(world)
    if reason == "ended run":
        await end_run(world)
    elif reason == "unfinished message":
        await put(world, run_id=RUN, step_id="step_7", delay=timedelta(days=1))
    elif reason == "final step":
        await send(world, RUN, "step_failed", "step_1", error=b"err")
    elif reason == "failed message":
        message_id = await put(world, run_id=RUN, step_id="step_1", max_attempts=1)
        await exhaust(world, message_id, clock.now())
    before = (await world.messages.list()).data
    wake_up = WakeUp(
        queue_name=QUEUE_NAME, run_id=RUN, step_id=step_id, step_name="add", reason="test"
    )
    store = await store_of(world)
    message = a_message(run_id=RUN, step_id=step_id, idempotency_key=step_id)
    assert await store.wake(wake_up, message) is None
    assert (await world.messages.list()).data == before
