"""Step events (B040 to B058)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ...core.entities import ABSENT, RunStatus
from ...errors import (
    EntityConflictError,
    InvalidRequestError,
    StepNotFoundError,
    TooEarlyError,
)
from ...world import World
from ..clock import START, ManualClock
from .helpers import (
    ENDINGS,
    OTHER_RUN,
    RUN,
    all_events,
    create_step,
    create_wait,
    end_run,
    log_types,
    race,
    row,
    send,
    send_sample,
    start_run,
    start_step,
    state_of,
    taking_turns,
)

CHANGES = ("step_started", "step_retrying", "step_completed", "step_failed")


@pytest.mark.anyio
async def test_b040_step_created(world: World, clock: ManualClock) -> None:
    """step_created: a pending step, attempt 0, its input kept; event and step returned."""
    await start_run(world)
    clock.advance(1)
    result = await send(world, RUN, "step_created", "step_1", stepName="add", input=[1, b"2"])
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    assert (step.run_id, step.step_id, step.step_name) == (RUN, "step_1", "add")
    assert (step.status, step.attempt, step.input) == ("pending", 0, [1, b"2"])
    assert (step.output, step.error) == (ABSENT, ABSENT)
    assert (step.started_at, step.completed_at, step.retry_after) == (None, None, None)
    assert step.created_at == step.updated_at == clock.now()
    event = (await all_events(world))[-1]
    assert row(result) == event
    assert (event.event_type, event.correlation_id) == ("step_created", "step_1")
    assert event.event_data == {"stepName": "add", "input": [1, b"2"]}


@pytest.mark.anyio
async def test_b041_step_created_twice_is_a_conflict(world: World) -> None:
    """step_created twice: 409, whatever became of the step; nothing is written."""
    await start_run(world)
    await create_step(world, input=b"first")
    for event_type in (None, "step_started", "step_completed"):
        if event_type is not None:
            await send_sample(world, RUN, event_type, "step_1")
        before = await state_of(world)
        with pytest.raises(EntityConflictError):
            await create_step(world, input=b"second", stepName="other")
        assert await state_of(world) == before


@pytest.mark.anyio
async def test_b041_concurrent_step_created_has_one_winner(world: World, rival: World) -> None:
    """Concurrent step_created in two Worlds: one step, one event, the others get 409."""
    await start_run(world)
    for number in range(4):
        won, lost = await race(
            *(
                create_step(one, RUN, f"step_{number}", input=index)
                for index, one in enumerate(taking_turns(world, rival))
            )
        )
        assert len(won) == 1
        assert all(isinstance(error, EntityConflictError) for error in lost)
        assert await rival.steps.get(RUN, f"step_{number}") == won[0]
    assert (await log_types(world))[2:] == ["step_created"] * 4


@pytest.mark.anyio
async def test_b042_a_step_id_belongs_to_its_run(world: World) -> None:
    """The same step id in two runs is two steps."""
    for run_id in (RUN, OTHER_RUN):
        await start_run(world, run_id)
        await create_step(world, run_id, "step_1", input=run_id)
    await start_step(world, RUN)
    await send(world, RUN, "step_completed", "step_1", result=b"out")
    assert (await world.steps.get(RUN, "step_1")).status == "completed"
    other = await world.steps.get(OTHER_RUN, "step_1")
    assert (other.status, other.attempt, other.input) == ("pending", 0, OTHER_RUN)
    assert len((await world.steps.list(RUN)).data) == 1


@pytest.mark.anyio
async def test_b043_step_started_returns_the_full_step(world: World, clock: ManualClock) -> None:
    """step_started: running, attempt 1, started_at; the full step is returned."""
    await start_run(world)
    await create_step(world, input=b"in")
    await send(world, RUN, "step_retrying", "step_1", error=b"earlier")
    clock.advance(1)
    result = await send(world, RUN, "step_started", "step_1", attempt=7, stepName="add")
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    assert (step.status, step.attempt) == ("running", 1)
    assert step.started_at == step.updated_at == clock.now()
    assert (step.input, step.error) == (b"in", b"earlier")
    assert row(result) == (await all_events(world))[-1]


@pytest.mark.anyio
async def test_b044_second_step_started(world: World, clock: ManualClock) -> None:
    """A second step_started: attempt 2, started_at unchanged, a second event."""
    await start_run(world)
    await create_step(world)
    first = await start_step(world)
    clock.advance(4)
    second = await start_step(world)
    assert (second.status, second.attempt) == ("running", 2)
    assert second.started_at == first.started_at
    assert second.updated_at == clock.now()
    assert (await log_types(world))[-2:] == ["step_started", "step_started"]


@pytest.mark.anyio
async def test_b045_concurrent_step_started_loses_no_attempt(world: World, rival: World) -> None:
    """20 concurrent step_started: attempt ends at 20, each caller saw its own."""
    await start_run(world)
    await create_step(world)
    won, lost = await race(*(start_step(one) for one in taking_turns(world, rival, count=20)))
    assert not lost
    assert sorted(step.attempt for step in won) == [*range(1, 21)]
    assert (await rival.steps.get(RUN, "step_1")).attempt == 20
    assert (await log_types(world))[3:] == ["step_started"] * 20


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", ["step_created", *CHANGES])
async def test_b046_step_events_need_a_correlation_id(world: World, event_type: str) -> None:
    """Step events without correlationId: 400 that says so."""
    await start_run(world)
    data: dict[str, Any] = {"stepName": "add", "input": b"", "error": b""}
    with pytest.raises(InvalidRequestError, match="correlationId") as caught:
        await send(world, RUN, event_type, None, **data)
    assert caught.value.status == 400
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, event_type, "", **data)
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", CHANGES)
async def test_b047_step_events_on_a_missing_step(world: World, event_type: str) -> None:
    """step_started, and the other changes, on a missing step of a live run: 404."""
    await start_run(world)
    with pytest.raises(StepNotFoundError) as caught:
        await send_sample(world, RUN, event_type, "step_missing")
    assert caught.value.status == 404
    assert caught.value.step_id == "step_missing"
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("output", [b"out", b"", None])
async def test_b048_step_completed(
    world: World, clock: ManualClock, started: bool, output: bytes | None
) -> None:
    """step_completed: output and completed_at; also from pending; a null result works."""
    await start_run(world)
    await create_step(world)
    if started:
        await start_step(world)
    clock.advance(1)
    result = await send(world, RUN, "step_completed", "step_1", result=output)
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    assert (step.status, step.output, step.error) == ("completed", output, ABSENT)
    assert step.completed_at == step.updated_at == clock.now()
    assert step.attempt == (1 if started else 0)
    assert (await all_events(world))[-1].event_data == {"result": output}


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
async def test_b048_step_completed_without_a_result(world: World, started: bool) -> None:
    """step_completed without a result leaves the output absent."""
    await start_run(world)
    await create_step(world)
    if started:
        await start_step(world)
    await send(world, RUN, "step_completed", "step_1")
    step = await world.steps.get(RUN, "step_1")
    assert (step.status, step.output) == ("completed", ABSENT)
    assert (await all_events(world))[-1].event_data is None


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("error", [b"\0\xff", {"message": "m", "extra": {"a": None}}, "text"])
async def test_b049_step_failed_keeps_the_error_verbatim(
    world: World, clock: ManualClock, started: bool, error: object
) -> None:
    """step_failed: the error as it came, and completed_at."""
    await start_run(world)
    await create_step(world)
    if started:
        await start_step(world)
    clock.advance(1)
    result = await send(world, RUN, "step_failed", "step_1", error=error)
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    assert (step.status, step.error, step.output) == ("failed", error, ABSENT)
    assert step.completed_at == step.updated_at == clock.now()
    assert (await all_events(world))[-1].event_data == {"error": error}


@pytest.mark.anyio
async def test_b050_step_retrying(world: World, clock: ManualClock) -> None:
    """step_retrying: pending, error, retry_after; without retryAfter an old one is cleared."""
    await start_run(world)
    await create_step(world)
    await start_step(world)
    later = START + timedelta(minutes=5)
    result = await send(world, RUN, "step_retrying", "step_1", error=b"one", retryAfter=later)
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    assert (step.status, step.error, step.retry_after) == ("pending", b"one", later)
    assert (step.attempt, step.completed_at) == (1, None)
    clock.advance(1)
    await send(world, RUN, "step_retrying", "step_1", error={"message": "two"})
    step = await world.steps.get(RUN, "step_1")
    assert (step.status, step.error) == ("pending", {"message": "two"})
    assert (step.retry_after, step.updated_at) == (None, clock.now())
    assert (await start_step(world)).attempt == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.001, 1), (0.999, 1), (1, 1), (1.001, 2), (59.5, 60), (3600, 3600), (90_000.2, 90_001)],
)
async def test_b051_step_started_too_early(world: World, seconds: float, expected: int) -> None:
    """step_started before retryAfter: 425 with rounded-up seconds; nothing changed."""
    await start_run(world)
    await create_step(world)
    after = START + timedelta(seconds=seconds)
    await send(world, RUN, "step_retrying", "step_1", error=b"e", retryAfter=after)
    before = await state_of(world)
    with pytest.raises(TooEarlyError, match="retryAfter") as caught:
        await start_step(world)
    assert (caught.value.status, caught.value.retry_after) == (425, expected)
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b052_step_started_after_retry_after(world: World, clock: ManualClock) -> None:
    """step_started at retryAfter works, clears it and keeps the error."""
    await start_run(world)
    await create_step(world)
    after = START + timedelta(seconds=10)
    await send(world, RUN, "step_retrying", "step_1", error=b"e", retryAfter=after)
    clock.advance(9.999)
    with pytest.raises(TooEarlyError):
        await start_step(world)
    clock.advance(0.001)
    step = await start_step(world)
    assert (step.status, step.attempt, step.retry_after) == ("running", 1, None)
    assert step.error == b"e"
    assert await world.steps.get(RUN, "step_1") == step


@pytest.mark.anyio
@pytest.mark.parametrize("ending", ["step_completed", "step_failed"])
@pytest.mark.parametrize("retry", [False, True])
async def test_b053_a_terminal_step_takes_no_event(world: World, ending: str, retry: bool) -> None:
    """Any step event on a terminal step: 409, also with a retryAfter in the future."""
    await start_run(world)
    await create_step(world)
    if retry:
        after = START + timedelta(hours=1)
        await send(world, RUN, "step_retrying", "step_1", error=b"e", retryAfter=after)
    await send_sample(world, RUN, ending, "step_1")
    before = await state_of(world)
    for event_type in CHANGES:
        with pytest.raises(EntityConflictError, match="terminal state") as caught:
            await send_sample(world, RUN, event_type, "step_1")
        assert caught.value.status == 409
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b054_concurrent_outcomes_have_one_winner(world: World, rival: World) -> None:
    """Concurrent step_completed and step_failed: exactly one terminal event."""
    await start_run(world)
    for number in range(6):
        step_id = f"step_{number}"
        await create_step(world, RUN, step_id)
        await start_step(world, RUN, step_id)
        kinds = ["step_completed", "step_failed"] * 4
        if number % 2:
            kinds.reverse()
        callers = [*taking_turns(world, rival, count=4), *taking_turns(rival, world, count=4)]
        won, lost = await race(
            *(
                send_sample(one, RUN, kind, step_id)
                for one, kind in zip(callers, kinds, strict=True)
            )
        )
        assert (len(won), len(lost)) == (1, 7)
        assert all(isinstance(error, EntityConflictError) for error in lost)
        step = await rival.steps.get(RUN, step_id)
        assert won[0].step == step
        rows = (await world.events.list_by_correlation_id(step_id, run_id=RUN)).data
        assert [event.event_type for event in rows] == [
            *("step_created", "step_started", f"step_{step.status}")
        ]


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b055_nothing_new_on_a_terminal_run(world: World, status: RunStatus) -> None:
    """step_created and wait_created on a terminal run: 409 with "terminal run"."""
    await start_run(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    with pytest.raises(EntityConflictError, match="terminal run"):
        await create_step(world)
    with pytest.raises(EntityConflictError, match="terminal run"):
        await create_wait(world)
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("event_type", CHANGES)
async def test_b056_a_running_step_outlives_its_run(
    world: World, status: RunStatus, event_type: str
) -> None:
    """A running step on a terminal run takes its events, behind the terminal event."""
    await start_run(world)
    await create_step(world)
    await start_step(world)
    ended = await end_run(world, RUN, status)
    result = await send_sample(world, RUN, event_type, "step_1")
    step = await world.steps.get(RUN, "step_1")
    assert result.step == step
    expected = {
        "step_started": ("running", 2),
        "step_retrying": ("pending", 1),
        "step_completed": ("completed", 1),
        "step_failed": ("failed", 1),
    }
    assert (step.status, step.attempt) == expected[event_type]
    assert (await log_types(world))[-2:] == [f"run_{status}", event_type]
    assert await world.runs.get(RUN) == ended


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("event_type", CHANGES)
async def test_b057_other_steps_on_a_terminal_run(
    world: World, status: RunStatus, event_type: str
) -> None:
    """Step events for a pending, terminal or missing step of a terminal run: 409."""
    await start_run(world)
    await create_step(world, RUN, "step_pending")
    await create_step(world, RUN, "step_retried")
    await send(
        world,
        RUN,
        "step_retrying",
        "step_retried",
        error=b"e",
        retryAfter=START + timedelta(hours=1),
    )
    await create_step(world, RUN, "step_done")
    await send_sample(world, RUN, "step_completed", "step_done")
    await end_run(world, RUN, status)
    before = await state_of(world)
    for step_id in ("step_pending", "step_retried", "step_done", "step_missing"):
        with pytest.raises(EntityConflictError) as caught:
            await send_sample(world, RUN, event_type, step_id)
        assert caught.value.status == 409
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", CHANGES)
async def test_b058_a_step_of_another_run_is_not_found(world: World, event_type: str) -> None:
    """A step event that names a step of another run: 404, the step untouched."""
    await start_run(world)
    await start_run(world, OTHER_RUN)
    step = await create_step(world, OTHER_RUN)
    with pytest.raises(StepNotFoundError):
        await send_sample(world, RUN, event_type, "step_1")
    assert await world.steps.get(OTHER_RUN, "step_1") == step
    assert len(await all_events(world)) == 2
