"""The ends of a run (B028 to B034)."""

from __future__ import annotations

from typing import Any

import pytest

from ...core.entities import ABSENT, RunStatus
from ...errors import EntityConflictError
from ...world import World
from ..clock import START, ManualClock
from .helpers import (
    ENDINGS,
    RUN,
    all_events,
    create_run,
    end_run,
    log_types,
    race,
    row,
    send,
    send_sample,
    start_run,
    state_of,
    taking_turns,
)


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
async def test_b028_run_completed(world: World, clock: ManualClock, started: bool) -> None:
    """run_completed sets status, output and completed_at; it works from pending too."""
    await (start_run if started else create_run)(world)
    clock.advance(3)
    result = await send(world, RUN, "run_completed", output=b"out")
    run = await world.runs.get(RUN)
    assert result.run == run
    assert (run.status, run.output, run.error) == ("completed", b"out", ABSENT)
    assert run.completed_at == run.updated_at == clock.now()
    assert run.started_at == (START if started else None)
    assert row(result) == (await all_events(world))[-1]
    assert row(result).event_data == {"output": b"out"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [b"\0\xff binary", {"message": "m", "stack": "s", "code": "c", "extra": [1, None]}, "text"],
    ids=["bytes", "map", "text"],
)
@pytest.mark.parametrize("code", ["USER_ERROR", None])
async def test_b029_run_failed_keeps_the_error_verbatim(
    world: World, clock: ManualClock, error: object, code: str | None
) -> None:
    """run_failed: the error as it came, bytes or map, and error_code beside it."""
    await start_run(world)
    clock.advance(1)
    data: dict[str, Any] = {"error": error, **({"errorCode": code} if code else {})}
    result = await send(world, RUN, "run_failed", **data)
    run = await world.runs.get(RUN)
    assert result.run == run
    assert (run.status, run.error, run.error_code) == ("failed", error, code)
    assert (run.output, run.completed_at) == (ABSENT, clock.now())
    assert (await all_events(world))[-1].event_data == data


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("reason", [None, "no longer needed – 🎉"])
async def test_b030_run_cancelled(
    world: World, clock: ManualClock, started: bool, reason: str | None
) -> None:
    """run_cancelled from pending and running; cancelReason stands in the event."""
    await (start_run if started else create_run)(world)
    clock.advance(1)
    data: dict[str, Any] = {} if reason is None else {"cancelReason": reason}
    result = await send(world, RUN, "run_cancelled", **data)
    run = await world.runs.get(RUN)
    assert result.run == run
    assert (run.status, run.completed_at) == ("cancelled", clock.now())
    assert (run.output, run.error, run.error_code) == (ABSENT, ABSENT, None)
    assert (await all_events(world))[-1].event_data == (data or None)


@pytest.mark.anyio
async def test_b031_run_cancelled_again_succeeds(world: World, clock: ManualClock) -> None:
    """run_cancelled on cancelled: success, an extra event, the run unchanged."""
    await start_run(world)
    run = await end_run(world, RUN, "cancelled")
    clock.advance(7)
    result = await send(world, RUN, "run_cancelled", cancelReason="again")
    assert result.run == run
    assert await world.runs.get(RUN) == run
    assert (await log_types(world))[-2:] == ["run_cancelled", "run_cancelled"]
    assert row(result) == (await all_events(world))[-1]
    assert row(result).created_at == clock.now()


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_b032_run_cancelled_on_an_ended_run(world: World, status: RunStatus) -> None:
    """run_cancelled on completed or failed: 409."""
    await start_run(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    with pytest.raises(EntityConflictError):
        await send(world, RUN, "run_cancelled")
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("event_type", ["run_started", "run_completed", "run_failed"])
async def test_b033_run_events_on_a_terminal_run(
    world: World, status: RunStatus, event_type: str
) -> None:
    """run_started, run_completed, run_failed on a terminal run: 409 that says "terminal"."""
    await start_run(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    with pytest.raises(EntityConflictError, match="terminal") as caught:
        await send_sample(world, RUN, event_type)
    assert caught.value.status == 409
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b034_concurrent_ends_have_one_winner(world: World, rival: World) -> None:
    """run_completed, run_failed and run_cancelled at once: one kind wins, and stays."""
    for number in range(8):
        run_id = f"wrun_{number}"
        await start_run(world, run_id)
        kinds = ["run_completed", "run_failed", "run_cancelled"]
        kinds = (kinds[number % 3 :] + kinds[: number % 3]) * 3
        won, lost = await race(
            *(
                send_sample(one, run_id, kind)
                for one, kind in zip(taking_turns(world, rival, count=9), kinds, strict=True)
            )
        )
        assert all(isinstance(error, EntityConflictError) for error in lost)
        run = await rival.runs.get(run_id)
        ends = (await log_types(world, run_id))[2:]
        assert set(ends) == {f"run_{run.status}"}
        assert len(ends) == len(won) == (3 if run.status == "cancelled" else 1)
        assert all(result.run == run for result in won)
