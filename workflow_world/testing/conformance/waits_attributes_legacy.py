"""Waits, run attributes, legacy and foreign logs (B083 to B092)."""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from ...core.decision import Decision
from ...core.entities import EventResult, Hook, RunStatus
from ...errors import (
    EntityConflictError,
    InvalidAttributesError,
    InvalidRequestError,
    RunExpiredError,
    RunNotFoundError,
    RunNotSupportedError,
    WaitNotFoundError,
)
from ...world import World
from ..clock import START, ManualClock
from .fixtures import Plant
from .helpers import (
    CREATION,
    ENDINGS,
    OTHER_RUN,
    RUN,
    SAMPLES,
    SOON,
    a_run,
    all_events,
    an_event,
    create_run,
    create_step,
    create_wait,
    end_run,
    log_types,
    planting_run,
    race,
    receive,
    row,
    send,
    send_sample,
    set_attributes,
    start_run,
    state_of,
    taking_turns,
)


@pytest.mark.anyio
async def test_b083_wait_created(world: World, clock: ManualClock) -> None:
    """wait_created with resumeAt to the millisecond; event and wait returned."""
    await start_run(world)
    clock.advance(1)
    at = datetime(2031, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    result = await send(world, RUN, "wait_created", "wait_1", resumeAt=at)
    wait = await world.waits.get(RUN, "wait_1")
    assert result.wait == wait
    assert (wait.run_id, wait.wait_id, wait.status) == (RUN, "wait_1", "waiting")
    assert (wait.resume_at, wait.completed_at) == (at, None)
    assert wait.created_at == wait.updated_at == clock.now()
    event = (await all_events(world))[-1]
    assert row(result) == event
    assert (event.event_type, event.correlation_id) == ("wait_created", "wait_1")
    assert event.event_data == {"resumeAt": at}


@pytest.mark.anyio
async def test_b083_wait_created_twice_is_a_conflict(world: World, rival: World) -> None:
    """wait_created twice, also concurrently and after completion: 409 and one row."""
    await start_run(world)
    won, lost = await race(*(create_wait(one) for one in taking_turns(world, rival)))
    assert (len(won), len(lost)) == (1, 7)
    assert all(isinstance(error, EntityConflictError) for error in lost)
    await send(world, RUN, "wait_completed", "wait_1")
    before = await state_of(world)
    with pytest.raises(EntityConflictError):
        await create_wait(world)
    assert await state_of(world) == before
    assert (await log_types(world))[2:] == ["wait_created", "wait_completed"]
    await start_run(world, OTHER_RUN)
    await create_wait(world, OTHER_RUN)


@pytest.mark.anyio
async def test_b083_shape_of_wait_created(world: World) -> None:
    """A wait without correlationId or with an unreadable resumeAt: 400."""
    await start_run(world)
    with pytest.raises(InvalidRequestError, match="correlationId"):
        await send(world, RUN, "wait_created", None, resumeAt=SOON)
    with pytest.raises(InvalidRequestError, match="correlationId"):
        await send(world, RUN, "wait_completed", None)
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, "wait_created", "wait_1", resumeAt="tomorrow")
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
async def test_b084_wait_completed(world: World, clock: ManualClock) -> None:
    """wait_completed once works, also before resumeAt; twice is a 409 with one row."""
    await start_run(world)
    created = await create_wait(world, resume_at=SOON)
    clock.advance(1)
    result = await send(world, RUN, "wait_completed", "wait_1")
    wait = await world.waits.get(RUN, "wait_1")
    assert result.wait == wait
    assert (wait.status, wait.resume_at) == ("completed", SOON)
    assert wait.completed_at == wait.updated_at == clock.now()
    assert wait.created_at == created.created_at
    assert row(result) == (await all_events(world))[-1]
    before = await state_of(world)
    with pytest.raises(EntityConflictError):
        await send(world, RUN, "wait_completed", "wait_1")
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b084_concurrent_wait_completed(world: World, rival: World) -> None:
    """Concurrent wait_completed in two Worlds: one event, the others 409."""
    await start_run(world)
    for number in range(4):
        wait_id = f"wait_{number}"
        await create_wait(world, RUN, wait_id)
        won, lost = await race(
            *(send(one, RUN, "wait_completed", wait_id) for one in taking_turns(world, rival))
        )
        assert (len(won), len(lost)) == (1, 7)
        assert all(isinstance(error, EntityConflictError) for error in lost)
    assert (await log_types(world)).count("wait_completed") == 4


@pytest.mark.anyio
async def test_b085_wait_completed_without_a_wait(world: World) -> None:
    """wait_completed without a wait of this run: 404."""
    await start_run(world)
    await start_run(world, OTHER_RUN)
    await create_wait(world, OTHER_RUN)
    with pytest.raises(WaitNotFoundError) as caught:
        await send(world, RUN, "wait_completed", "wait_1")
    assert caught.value.status == 404
    assert len(await all_events(world)) == 2
    assert (await world.waits.get(OTHER_RUN, "wait_1")).status == "waiting"


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b085_wait_completed_on_a_terminal_run(world: World, status: RunStatus) -> None:
    """wait_completed on a terminal run: 409, with or without the wait."""
    await start_run(world)
    await create_wait(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    for wait_id in ("wait_1", "wait_missing"):
        with pytest.raises(EntityConflictError):
            await send(world, RUN, "wait_completed", wait_id)
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b086_attr_set_merges(world: World, clock: ManualClock) -> None:
    """attr_set merges, removes on null, leaves others; the null is kept in the event."""
    await start_run(world, attributes={"a": "1", "b": "2", "c": "3"})
    clock.advance(1)
    result = await set_attributes(world, "attr_1", ("a", "new"), ("b", None), ("d", ""))
    run = await world.runs.get(RUN)
    assert result.run == run
    assert run.attributes == {"a": "new", "c": "3", "d": ""}
    assert (run.status, run.updated_at) == ("running", clock.now())
    event = (await all_events(world))[-1]
    assert row(result) == event
    assert (event.event_type, event.correlation_id) == ("attr_set", "attr_1")
    assert event.event_data == {
        "changes": [
            {"key": "a", "value": "new"},
            {"key": "b", "value": None},
            {"key": "d", "value": ""},
        ],
        "writer": {"type": "workflow"},
    }
    await set_attributes(world, "attr_2", ("never set", None))
    assert (await world.runs.get(RUN)).attributes == run.attributes


@pytest.mark.anyio
async def test_b087_repeated_attribute_write(world: World, rival: World) -> None:
    """A workflow's repeated correlation id: 409, attributes unchanged, also concurrently."""
    await start_run(world)
    won, lost = await race(
        *(
            set_attributes(one, "attr_1", ("k", str(number)))
            for number, one in enumerate(taking_turns(world, rival))
        )
    )
    assert (len(won), len(lost)) == (1, 7)
    assert all(isinstance(error, EntityConflictError) for error in lost)
    run = await world.runs.get(RUN)
    assert won[0].run == run
    with pytest.raises(EntityConflictError):
        await set_attributes(world, "attr_1", ("other", "x"))
    assert await world.runs.get(RUN) == run
    assert (await log_types(world))[2:] == ["attr_set"]


@pytest.mark.anyio
async def test_b087_a_step_may_repeat_its_write(world: World) -> None:
    """A step writer has no correlation id and may repeat its write."""
    await start_run(world)
    data: dict[str, Any] = {
        "changes": [{"key": "k", "value": "v"}],
        "writer": {"type": "step", "stepId": "step_1", "attempt": 1},
    }
    for _ in range(2):
        result = await send(world, RUN, "attr_set", **data)
        assert row(result).event_data == data
    assert (await world.runs.get(RUN)).attributes == {"k": "v"}
    assert (await log_types(world))[2:] == ["attr_set", "attr_set"]
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, "attr_set", "attr_1", **data)
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, "attr_set", **SAMPLES["attr_set"])


BROKEN: Final[Mapping[str, list[tuple[str, str | None]]]] = {
    "empty key": [("", "v")],
    "long key": [("k" * 257, "v")],
    "long key in UTF-16": [("🎉" * 128 + "k", "v")],
    "long value": [("k", "v" * 257)],
    "long value in UTF-8": [("k", "é" * 128 + "v")],
    "duplicate key": [("k", "1"), ("k", None)],
    "reserved prefix": [("$k", "v")],
    "65th key": [(f"new {number}", "v") for number in range(5)],
    "no change at all": [],
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", BROKEN)
async def test_b088_broken_attribute_rules(world: World, case: str) -> None:
    """A broken rule: 400, nothing written, and the correlation id is still usable."""
    await start_run(world, attributes={f"key {number}": "v" for number in range(60)})
    before = await state_of(world)
    with pytest.raises(InvalidAttributesError) as caught:
        await set_attributes(world, "attr_1", *BROKEN[case])
    assert caught.value.status == 400
    assert await state_of(world) == before
    await set_attributes(world, "attr_1", ("key 0", "changed"))
    assert (await world.runs.get(RUN)).attributes["key 0"] == "changed"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "case", [name for name in BROKEN if name not in ("no change at all", "duplicate key")]
)
async def test_b088_rules_at_run_creation(world: World, case: str) -> None:
    """The same rules hold for attributes given at run creation."""
    attributes: dict[str, str | None] = dict(BROKEN[case])
    if case == "65th key":
        attributes = {f"key {number}": "v" for number in range(65)}
    with pytest.raises(InvalidAttributesError):
        await create_run(world, attributes=attributes)
    assert await world.runs.get_many([RUN]) == [None]


@pytest.mark.anyio
async def test_b088_the_limits_themselves_are_allowed(world: World) -> None:
    """Keys of 256 UTF-16 units, values of 256 bytes, 64 keys, reserved keys when allowed."""
    await start_run(world)
    await set_attributes(world, "attr_1", ("🎉" * 128, "é" * 128), ("k" * 256, "v" * 256))
    await set_attributes(world, "attr_2", *((f"key {number}", "v") for number in range(62)))
    assert len((await world.runs.get(RUN)).attributes) == 64
    await set_attributes(
        world, "attr_3", ("key 0", None), ("$reserved", "v"), allowReservedAttributes=True
    )
    run = await world.runs.get(RUN)
    assert len(run.attributes) == 64
    assert run.attributes["$reserved"] == "v"
    assert run.attributes["🎉" * 128] == "é" * 128
    with pytest.raises(InvalidAttributesError):
        await set_attributes(world, "attr_4", ("$reserved", "w"))


@pytest.mark.anyio
async def test_b089_concurrent_attr_set_loses_none(world: World, rival: World) -> None:
    """Concurrent attr_set on different keys in two Worlds: none is lost."""
    await start_run(world)
    won, lost = await race(
        *(
            set_attributes(one, f"attr_{number}", (f"key {number}", str(number)))
            for number, one in enumerate(taking_turns(world, rival, count=16))
        )
    )
    assert not lost
    assert len(won) == 16
    expected = {f"key {number}": str(number) for number in range(16)}
    assert (await rival.runs.get(RUN)).attributes == expected


@pytest.mark.anyio
@pytest.mark.parametrize("absent", [False, True])
async def test_b090_legacy_run(world: World, plant: Plant, absent: bool) -> None:
    """Legacy run: wait_completed and hook_received recorded, others 409; spec 1 or none."""
    if absent:
        await plant(RUN, planting_run(a_run(status="pending", spec_version=None)))
    else:
        assert (await create_run(world, spec_version=1)).spec_version == 1
    for event_type in SAMPLES:
        if event_type in ("run_created", "run_cancelled", "wait_completed", "hook_received"):
            continue
        before = await state_of(world)
        with pytest.raises(EntityConflictError, match="not supported for legacy runs") as caught:
            await send_sample(world, RUN, event_type)
        assert caught.value.status == 409
        assert await state_of(world) == before
    run = await world.runs.get(RUN)
    waited = await send(world, RUN, "wait_completed", "wait_1", spec_version=1)
    received = await send(world, RUN, "hook_received", "hook_1", spec_version=1, payload=[1])
    events = await all_events(world)
    assert [row(waited), row(received)] == events[1:]
    assert [(event.event_type, event.spec_version) for event in events[1:]] == [
        ("wait_completed", 5),
        ("hook_received", 5),
    ]
    assert events[2].event_data == {"payload": [1]}
    assert (await state_of(world)).run == run


@pytest.mark.anyio
async def test_b090_cancelling_a_legacy_run(world: World, plant: Plant, clock: ManualClock) -> None:
    """run_cancelled on a legacy run: cancelled without an event, its hooks gone; again is a
    no-op."""
    run = await create_run(world, spec_version=1)
    hook = Hook(
        run_id=RUN,
        hook_id="hook_1",
        token="token",
        owner_id="default",
        project_id="default",
        environment="development",
        created_at=START,
    )
    await plant(RUN, lambda facts: Decision(run=run, hook=hook, result=EventResult()))
    clock.advance(1)
    result = await send(world, RUN, "run_cancelled")
    cancelled = await world.runs.get(RUN)
    assert (result.run, result.event) == (cancelled, None)
    assert (cancelled.status, cancelled.completed_at) == ("cancelled", clock.now())
    assert await log_types(world) == ["run_created"]
    assert [*(await world.hooks.list()).data] == []
    clock.advance(1)
    again = await send(world, RUN, "run_cancelled")
    assert (again.run, again.event) == (cancelled, None)
    assert await world.runs.get(RUN) == cancelled


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_b090_cancelling_an_ended_legacy_run(
    world: World, plant: Plant, status: RunStatus
) -> None:
    """run_cancelled on a legacy run that completed or failed: 409."""
    fields: dict[str, Any] = {"output": b"out"} if status == "completed" else {"error": b"err"}
    run = a_run(status=status, spec_version=1, completed_at=START, **fields)
    await plant(RUN, planting_run(run))
    with pytest.raises(EntityConflictError):
        await send(world, RUN, "run_cancelled")
    assert await world.runs.get(RUN) == run


@pytest.mark.anyio
async def test_b091_run_of_a_newer_sdk(world: World, plant: Plant) -> None:
    """A run with spec version 8: writes raise RunNotSupportedError, reads are fine."""
    run = a_run(spec_version=8)
    await plant(RUN, planting_run(run))
    before = await state_of(world)
    for event_type in SAMPLES:
        if event_type == "run_created":
            continue
        with pytest.raises(RunNotSupportedError) as caught:
            await send_sample(world, RUN, event_type)
        assert caught.value.status == 422
        assert (caught.value.run_spec_version, caught.value.supported) == (8, 7)
    assert await state_of(world) == before
    assert await world.runs.get(RUN) == run
    assert [*(await world.runs.list()).data] == [run]


@pytest.mark.anyio
async def test_b092_foreign_rows_are_read_back(world: World, plant: Plant) -> None:
    """A stored ``wevt_`` id, a slot id and a ``noop`` row are read back as they are."""
    rows = (
        an_event(1, "run_created", event_id=f"evnt_{1:026d}", event_data=dict(CREATION)),
        an_event(
            2, "hook_conflict", event_id="wevt_01ARZ3NDEKTSV4RRFFQ69G5FAV", correlation_id="hook_9"
        ),
        an_event(
            3,
            "noop",
            event_id=f"evnt_{3:026d}",
            spec_version=7,
            event_data={"reason": "sealed", "unknownKey": {"a": None}},
        ),
    )
    await plant(RUN, planting_run(a_run(), *rows))
    assert await all_events(world) == [*rows]
    for event in rows:
        assert await world.events.get(RUN, event.event_id) == event
    assert [*(await world.events.list_by_correlation_id("hook_9")).data] == [rows[1]]
    await create_step(world)
    events = await all_events(world)
    assert [event.position for event in events] == [1, 2, 3, 4]
    assert events[3].event_id.startswith("evnt_")


@pytest.mark.anyio
@pytest.mark.parametrize("version", [6, 7])
async def test_b092_slot_ids_from_version_6_on(world: World, version: int) -> None:
    """Runs of spec version 6 and above number their events: slot ids (spec 1.10, design 5)."""
    await start_run(world, spec_version=version)
    await create_step(world)
    ids = [event.event_id for event in await all_events(world)]
    assert ids == [f"evnt_{position:026d}" for position in (1, 2, 3)]


@pytest.mark.anyio
async def test_b090_missing_run_is_no_legacy_run(world: World) -> None:
    """The two events that a legacy run accepts still need their run."""
    with pytest.raises(RunNotFoundError):
        await send(world, RUN, "wait_completed", "wait_1", spec_version=1)
    with pytest.raises(RunNotFoundError):
        await receive(world)
    with pytest.raises(RunNotFoundError):
        await send(world, RUN, "run_cancelled", spec_version=1)


@pytest.mark.anyio
async def test_b091_expiry_comes_before_the_version(world: World, plant: Plant) -> None:
    """An expired run of a newer SDK answers that it expired: the order of checks (spec 2.3)."""
    await plant(RUN, planting_run(a_run(spec_version=8, expired_at=START)))
    with pytest.raises(RunExpiredError):
        await send_sample(world, RUN, "run_cancelled")
