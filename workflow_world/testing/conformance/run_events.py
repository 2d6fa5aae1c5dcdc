"""Run events: creation, start, resilient start, what is refused (B015 to B027, B035 to B039)."""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

from typing import Any

import pytest

from ...core.decision import Decision
from ...core.entities import ABSENT, EventResult, RunStatus
from ...errors import (
    EntityConflictError,
    InvalidAttributesError,
    InvalidRequestError,
    RunExpiredError,
    RunNotFoundError,
)
from ...world import World
from ..clock import START, ManualClock
from .fixtures import Plant
from .helpers import (
    CREATION,
    ENDINGS,
    RUN,
    SAMPLES,
    SOON,
    a_run,
    all_events,
    an_event,
    create_run,
    create_step,
    creation,
    end_run,
    log_types,
    planting_run,
    race,
    row,
    send,
    send_sample,
    start_run,
    state_of,
    taking_turns,
)


@pytest.mark.anyio
async def test_b015_run_created_makes_a_pending_run(world: World) -> None:
    """run_created: a pending run and one event with its data at position 1, both returned."""
    data: dict[str, Any] = {
        **CREATION,
        "executionContext": {"a": 1},
        "attributes": {"k": "v"},
        "encryptionPublicKey": "pk",
    }
    result = await send(world, RUN, "run_created", **data)
    run, event = await world.runs.get(RUN), row(result)
    assert result.run == run
    assert [event] == await all_events(world)
    assert (run.status, run.deployment_id, run.workflow_name) == ("pending", "dpl_test", "greet")
    assert (run.input, run.output, run.error) == (b"in", ABSENT, ABSENT)
    assert (run.attributes, run.execution_context) == ({"k": "v"}, {"a": 1})
    assert (run.started_at, run.completed_at, run.expired_at) == (None, None, None)
    assert run.created_at == run.updated_at == event.created_at == START
    assert (event.event_type, event.position, event.event_data) == ("run_created", 1, data)
    assert (event.run_id, event.correlation_id) == (RUN, None)


@pytest.mark.anyio
async def test_b016_run_created_twice_is_a_conflict(world: World) -> None:
    """run_created twice: 409, and one run with one event, whatever its status."""
    await create_run(world, input=b"first")
    for event_type in (None, "run_started", "run_completed"):
        if event_type is not None:
            await send_sample(world, RUN, event_type)
        before = await state_of(world)
        with pytest.raises(EntityConflictError) as caught:
            await create_run(world, input=b"second")
        assert caught.value.status == 409
        assert await state_of(world) == before


@pytest.mark.anyio
async def test_b017_concurrent_run_created_has_one_winner(world: World, rival: World) -> None:
    """Concurrent run_created with one id in two Worlds: exactly one succeeds."""
    for number in range(5):
        run_id = f"wrun_{number}"
        won, lost = await race(
            *(
                create_run(one, run_id, input=index)
                for index, one in enumerate(taking_turns(world, rival))
            )
        )
        assert len(won) == 1
        assert all(isinstance(error, EntityConflictError) for error in lost)
        assert await rival.runs.get(run_id) == won[0]
        assert await log_types(world, run_id) == ["run_created"]


@pytest.mark.anyio
async def test_b018_run_started_on_a_pending_run(world: World, clock: ManualClock) -> None:
    """run_started on pending: running, started_at set, the event stored without eventData."""
    created = await create_run(world)
    clock.advance(2)
    result = await send(world, RUN, "run_started", **creation(input=b"other"))
    run, event = await world.runs.get(RUN), row(result)
    assert result.run == run
    assert (run.status, run.started_at, run.updated_at) == ("running", clock.now(), clock.now())
    assert (run.created_at, run.input) == (created.created_at, b"in")
    assert (event.event_type, event.position, event.event_data) == ("run_started", 2, None)
    assert (await all_events(world))[1] == event


@pytest.mark.anyio
async def test_b019_run_started_on_a_running_run_does_nothing(
    world: World, clock: ManualClock
) -> None:
    """run_started on running: run returned, event None, no row, updated_at unchanged."""
    await start_run(world)
    before = await state_of(world)
    clock.advance(5)
    for _ in range(3):
        result = await send(world, RUN, "run_started")
        assert result.event is None
        assert result.run == before.run
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b020_concurrent_run_started_has_one_event(world: World, rival: World) -> None:
    """Concurrent run_started: one row in total; all get a run running since the same time."""
    await create_run(world)
    won, lost = await race(
        *(send(one, RUN, "run_started") for one in taking_turns(world, rival, count=16))
    )
    assert not lost
    assert len([result for result in won if result.event is not None]) == 1
    runs = [result.run for result in won if result.run is not None]
    assert len(runs) == 16
    assert {(run.status, run.started_at) for run in runs} == {("running", START)}
    assert await log_types(world) == ["run_created", "run_started"]


@pytest.mark.anyio
async def test_b021_run_started_on_a_missing_run(world: World) -> None:
    """run_started on a missing run without data: 404, nothing written."""
    with pytest.raises(RunNotFoundError) as caught:
        await send(world, RUN, "run_started")
    assert caught.value.status == 404
    assert (await state_of(world)).run is None
    assert await all_events(world) == []


@pytest.mark.anyio
async def test_b022_resilient_start_creates_run_and_two_events(world: World) -> None:
    """Resilient start: run and two events in order, with version, context, attributes, key."""
    data: dict[str, Any] = {
        **CREATION,
        "executionContext": {"queueNamespace": "ns"},
        "attributes": {"k": "v"},
        "encryptionPublicKey": "pk",
    }
    result = await send(world, RUN, "run_started", spec_version=4, **data)
    run = await world.runs.get(RUN)
    first, second = await all_events(world)
    assert (result.run, result.event) == (run, second)
    assert (run.status, run.spec_version, run.input) == ("running", 4, b"in")
    assert (run.deployment_id, run.workflow_name) == ("dpl_test", "greet")
    assert (run.execution_context, run.attributes) == ({"queueNamespace": "ns"}, {"k": "v"})
    assert run.encryption_public_key == "pk"
    assert run.created_at == run.started_at == run.updated_at == START
    assert (first.position, first.event_type, first.event_data) == (1, "run_created", data)
    assert (second.position, second.event_type, second.event_data) == (2, "run_started", None)
    assert (first.spec_version, second.spec_version) == (4, 4)
    assert first.event_id < second.event_id


@pytest.mark.anyio
async def test_b022_resilient_start_checks_attributes(world: World) -> None:
    """The attributes of a resilient start obey the rules of run creation."""
    with pytest.raises(InvalidAttributesError):
        await send(world, RUN, "run_started", **CREATION, attributes={"$reserved": "v"})
    assert await all_events(world) == []
    result = await send(
        world,
        RUN,
        "run_started",
        **CREATION,
        attributes={"$reserved": "v"},
        allowReservedAttributes=True,
    )
    assert result.run is not None
    assert result.run.attributes == {"$reserved": "v"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deploymentId", ""),
        ("deploymentId", None),
        ("workflowName", ""),
        ("workflowName", None),
        ("input", "missing"),
    ],
)
async def test_b023_unusable_creation_data_is_not_found(
    world: World, key: str, value: str | None
) -> None:
    """An empty or missing deploymentId or workflowName, or no input: 404, nothing created."""
    data = dict(CREATION)
    if key == "input":
        del data["input"]
    else:
        data[key] = value
    for given in (data, {name: data[name] for name in data if data[name] is not None}):
        with pytest.raises(RunNotFoundError):
            await send(world, RUN, "run_started", **given)
    assert await world.runs.get_many([RUN]) == [None]
    assert await all_events(world) == []


@pytest.mark.anyio
async def test_b024_empty_bytes_are_an_input(world: World) -> None:
    """Resilient data with an input of empty bytes works."""
    await send(world, RUN, "run_started", **creation(input=b""))
    assert (await world.runs.get(RUN)).input == b""
    assert await log_types(world) == ["run_created", "run_started"]


@pytest.mark.anyio
async def test_b025_resilient_start_racing_run_created(world: World, rival: World) -> None:
    """Two Worlds race: one run, one run_created row; the loser's run_created is a 409."""
    for number in range(8):
        run_id = f"wrun_{number}"
        carried = creation(deploymentId="dpl_carried", input=b"carried")
        starts = [send(one, run_id, "run_started", **carried) for one in taking_turns(rival, world)]
        creations = [send(one, run_id, "run_created", **CREATION) for one in (world, rival) * 4]
        first, second = (starts, creations) if number % 2 else (creations, starts)
        won, lost = await race(*first, *second)
        assert await log_types(world, run_id) == ["run_created", "run_started"]
        created, started = await all_events(world, run_id)
        run = await world.runs.get(run_id)
        assert (run.status, run.started_at) == ("running", started.created_at)
        assert all(isinstance(error, EntityConflictError) for error in lost)
        creators = [one for one in won if one.event and one.event.event_type == "run_created"]
        if creators:
            assert [one.event for one in creators] == [created]
            assert (run.deployment_id, run.input) == ("dpl_test", b"in")
            assert len(lost) == 7
        else:
            assert (run.deployment_id, run.input) == ("dpl_carried", b"carried")
            assert len(lost) == 8
        assert (created.event_data or {})["input"] == run.input


@pytest.mark.anyio
async def test_b026_resilient_data_changes_nothing_in_an_existing_run(world: World) -> None:
    """Creation data carried to an existing run, pending or running, leaves it as it was."""
    created = await create_run(world)
    carried: dict[str, Any] = {
        "deploymentId": "dpl_other",
        "workflowName": "other",
        "input": b"other",
        "attributes": {"a": "b"},
        "executionContext": {"x": 1},
        "encryptionPublicKey": "other",
    }
    for _ in range(2):
        await send(world, RUN, "run_started", spec_version=4, **carried)
        run = await world.runs.get(RUN)
        for name in (
            *("deployment_id", "workflow_name", "input", "attributes"),
            *("execution_context", "encryption_public_key", "spec_version", "created_at"),
        ):
            assert getattr(run, name) == getattr(created, name), name
    assert await log_types(world) == ["run_created", "run_started"]


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b027_resilient_data_does_not_resurrect(world: World, status: RunStatus) -> None:
    """Resilient data on a terminal run: 409, and the run stays as it ended."""
    await start_run(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    with pytest.raises(EntityConflictError, match="terminal"):
        await send(world, RUN, "run_started", **CREATION)
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", [name for name in SAMPLES if name != "run_created"])
async def test_b035_every_event_needs_its_run(world: World, event_type: str) -> None:
    """Every event type on a missing run: 404, and the log stays empty."""
    with pytest.raises(RunNotFoundError) as caught:
        await send_sample(world, RUN, event_type)
    assert caught.value.status == 404
    assert await world.runs.get_many([RUN]) == [None]
    assert await all_events(world) == []
    assert [*(await world.events.list_by_correlation_id("id_1")).data] == []


@pytest.mark.anyio
async def test_b036_an_expired_run_takes_no_writes(
    world: World, clock: ManualClock, plant: Plant
) -> None:
    """Past expired_at writes are a 410, step events a 409 (spec 2.3); reads work."""
    await plant(RUN, planting_run(a_run(expired_at=SOON)))
    clock.advance(59.999)
    await create_step(world)
    clock.advance(0.001)
    before = await state_of(world)
    for event_type in SAMPLES:
        if event_type == "run_created":
            continue
        expected = EntityConflictError if event_type.startswith("step_") else RunExpiredError
        with pytest.raises(expected) as caught:
            await send_sample(world, RUN, event_type, "step_1")
        assert caught.value.status == (409 if expected is EntityConflictError else 410)
    assert await state_of(world) == before
    run = await world.runs.get(RUN)
    assert run.expired_at == SOON
    assert [one.run_id for one in (await world.runs.list()).data] == [RUN]
    assert (await world.steps.get(RUN, "step_1")).status == "pending"
    assert await log_types(world) == ["run_created", "step_created"]


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", [name for name in SAMPLES if name != "run_created"])
async def test_b037_run_id_is_required(world: World, event_type: str) -> None:
    """An event without run id, other than run_created: 400 with "runId is required"."""
    with pytest.raises(InvalidRequestError, match="runId is required") as caught:
        await send(world, None, event_type, "id_1", **SAMPLES[event_type])
    assert caught.value.status == 400


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", ["run_paused", "", "hook_conflict", "noop", "RUN_STARTED"])
async def test_b038_uncreatable_types_are_refused(world: World, event_type: str) -> None:
    """An unknown type, hook_conflict and noop are a 400 for callers, also on a missing run."""
    for exists in (False, True):
        if exists:
            await start_run(world)
        with pytest.raises(InvalidRequestError) as caught:
            await send(world, RUN, event_type, "id_1", token="t")
        assert caught.value.status == 400
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event_type", "key"),
    [
        (name, key)
        for name, keys in {
            "run_created": ("deploymentId", "workflowName", "input"),
            "run_failed": ("error",),
            "attr_set": ("changes", "writer"),
            "step_created": ("stepName", "input"),
            "step_failed": ("error",),
            "step_retrying": ("error",),
            "hook_created": ("token",),
            "hook_received": ("payload",),
            "wait_created": ("resumeAt",),
        }.items()
        for key in keys
    ],
)
async def test_b038_missing_data_is_refused(world: World, event_type: str, key: str) -> None:
    """Required data that is missing: 400 before the run is looked up (spec 2.3)."""
    data = {name: value for name, value in SAMPLES[event_type].items() if name != key}
    correlation = None if event_type.startswith("run_") else "id_1"
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, event_type, correlation, **data)
    await start_run(world)
    run_id = "wrun_new" if event_type == "run_created" else RUN
    with pytest.raises(InvalidRequestError):
        await send(world, run_id, event_type, correlation, **data)
    assert await log_types(world) == ["run_created", "run_started"]
    assert await world.runs.get_many(["wrun_new"]) == [None]


@pytest.mark.anyio
@pytest.mark.parametrize("reason", ["x" * 512, "🎉" * 256, ""])
async def test_b039_cancel_reason_up_to_the_limit(world: World, reason: str) -> None:
    """A cancelReason of up to 512 UTF-16 units is accepted and kept."""
    await start_run(world)
    await send(world, RUN, "run_cancelled", cancelReason=reason)
    assert (await all_events(world))[-1].event_data == {"cancelReason": reason}


@pytest.mark.anyio
@pytest.mark.parametrize("reason", ["x" * 513, "🎉" * 256 + "x"])
async def test_b039_cancel_reason_over_the_limit(world: World, reason: str) -> None:
    """A cancelReason over 512 UTF-16 units: 400, and the run goes on."""
    await start_run(world)
    before = await state_of(world)
    with pytest.raises(InvalidRequestError) as caught:
        await send(world, RUN, "run_cancelled", cancelReason=reason)
    assert caught.value.status == 400
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b036_planted_rows_are_read_back(world: World, plant: Plant) -> None:
    """A run that ended and expired before this World opened is still read in full."""
    run = a_run(status="completed", output=b"out", completed_at=START, expired_at=START)
    events = (
        an_event(1, "run_created", event_data=dict(CREATION)),
        an_event(2, "run_completed", event_data={"output": b"out"}),
    )
    result = await plant(
        RUN,
        lambda facts: Decision(
            events=events, run=run, run_is_new=True, result=EventResult(run=run)
        ),
    )
    assert result.run == run
    assert await world.runs.get(RUN) == run
    assert await all_events(world) == [*events]
