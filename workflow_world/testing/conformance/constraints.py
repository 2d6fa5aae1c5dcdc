"""Values through the core store, and what the database itself refuses (B203, B204)."""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import pytest

from ...core.decision import Decision, Facts
from ...core.entities import Event, EventResult, Hook
from ...errors import WorldError
from ...world import World
from ..clock import START
from .fixtures import Plant
from .helpers import (
    CREATION,
    OTHER_RUN,
    RUN,
    SAMPLES,
    SOON,
    a_run,
    all_events,
    an_event,
    create_hook,
    create_step,
    create_wait,
    need,
    planting_run,
    receive,
    send,
    set_attributes,
    start_run,
    state_of,
)

LEGACY: Final[tuple[object, ...]] = (
    [1, "two", None, {"three": b"3"}],
    {"message": "m", "stack": "s"},
    "plain text",
    0,
    False,
    datetime(2031, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC),
)


@pytest.mark.anyio
@pytest.mark.parametrize("value", LEGACY, ids=lambda value: type(value).__name__)
async def test_b203_any_payload_is_read_back_by_every_read(world: World, value: object) -> None:
    """A payload of any type written through the core store comes back from every read of it."""
    await start_run(world, input=value)
    await create_step(world, input=value)
    await create_hook(world, metadata=value)
    await receive(world, payload=value, resume_id="resume")
    events = await all_events(world)
    correlated = [
        *(await world.events.list_by_correlation_id("step_1")).data,
        *(await world.events.list_by_correlation_id("hook_1", run_id=RUN)).data,
    ]
    assert correlated == events[2:]
    found = [
        (await world.runs.get(RUN)).input,
        *(run.input for run in (await world.runs.list()).data),
        *(run.input for run in await world.runs.get_many([RUN]) if run is not None),
        *(step.input for step in (await world.steps.list(RUN)).data),
        (await world.steps.get(None, "step_1")).input,
        *(hook.metadata for hook in (await world.hooks.list()).data),
        (await world.hooks.get_by_token("token")).metadata,
        *((event.event_data or {})["input"] for event in (events[0], events[2])),
        (events[3].event_data or {})["metadata"],
        (events[4].event_data or {})["payload"],
        *[
            (await world.events.get(RUN, event.event_id)).event_data == event.event_data and value
            for event in (events[0], *events[2:])
        ],
    ]
    assert all(type(one) is type(value) and one == value for one in found), found


async def _occupied(world: World) -> None:
    """A run in which every event that may happen once has happened."""
    await start_run(world)
    for number in (1, 2, 3):
        await create_step(world, RUN, f"step_{number}")
    await send(world, RUN, "step_completed", "step_1", **SAMPLES["step_completed"])
    await send(world, RUN, "step_failed", "step_2", **SAMPLES["step_failed"])
    await create_hook(world, RUN, "hook_1", "token")
    await receive(world, RUN, "hook_1", resume_id="resume", digest="d")
    await send(world, RUN, "hook_created", "hook_2", token="token")
    await create_hook(world, RUN, "hook_3", "token 3")
    await send(world, RUN, "hook_disposed", "hook_3")
    await create_wait(world, RUN, "wait_1")
    await send(world, RUN, "wait_completed", "wait_1")
    await set_attributes(world, "attr_1", ("k", "v"))
    await start_run(world, OTHER_RUN)


def _event(
    event_type: str, correlation_id: str | None, **fields: Any
) -> Callable[[Facts], Decision]:
    """Decide to append an event that is right but for what it repeats."""

    def decide(facts: Facts) -> Decision:
        assert facts.run is not None
        assert facts.last is not None
        event = an_event(
            facts.last.position + 1,
            event_type,
            facts.run.run_id,
            correlation_id=correlation_id,
            **{"event_data": dict(SAMPLES.get(event_type, {})) or None, **fields},
        )
        return Decision(events=(event,), result=EventResult(event=event))

    return decide


def _at_last_position(facts: Facts) -> Decision:
    assert facts.last is not None
    event = an_event(facts.last.position, "noop")
    return Decision(events=(event,), result=EventResult(event=event))


def _second_of_two(facts: Facts) -> Decision:
    """One good row, and then one that repeats: neither may stay."""
    assert facts.last is not None
    position = facts.last.position
    events = (
        an_event(position + 1, "noop"),
        an_event(position + 2, "wait_completed", correlation_id="wait_1"),
    )
    return Decision(events=events, result=EventResult())


def _with_entity(facts: Facts) -> Decision:
    """A repeated event together with a change of the run: the change may not stay either."""
    assert facts.run is not None
    repeated = _event("step_created", "step_1")(facts)
    run = replace(facts.run, attributes={"planted": "yes"})
    return repeated._replace(run=run)


def _same_token(facts: Facts) -> Decision:
    assert facts.last is not None
    hook = Hook(
        run_id=RUN,
        hook_id="hook_9",
        token="token",
        owner_id="default",
        project_id="default",
        environment="development",
        created_at=START,
    )
    created = an_event(
        facts.last.position + 1,
        "hook_created",
        correlation_id="hook_9",
        event_data={"token": "token"},
    )
    return Decision(events=(created,), hook=hook, result=EventResult())


DUPLICATES: Final[Mapping[str, Callable[[Facts], Decision]]] = MappingProxyType(
    {
        "step_created": _event("step_created", "step_1"),
        "wait_created": _event("wait_created", "wait_1", due_at=SOON),
        "wait_completed": _event("wait_completed", "wait_1"),
        "hook_created": _event("hook_created", "hook_1"),
        "hook_conflict": _event("hook_conflict", "hook_2"),
        "hook_disposed": _event("hook_disposed", "hook_3"),
        "attr_set of a workflow": _event("attr_set", "attr_1"),
        "step_completed twice": _event("step_completed", "step_1"),
        "step_failed after step_completed": _event("step_failed", "step_1"),
        "step_completed after step_failed": _event("step_completed", "step_2"),
        "resume id": _event("hook_received", "hook_1", resume_id="resume", payload_digest="d"),
        "position": _at_last_position,
        "second of two events": _second_of_two,
        "event with an entity": _with_entity,
        "token": _same_token,
        "run": planting_run(a_run(input=b"planted")),
    }
)


@pytest.mark.anyio
@pytest.mark.parametrize("name", DUPLICATES)
async def test_b204_the_database_refuses_duplicates(
    world: World, rival: World, plant: Plant, name: str
) -> None:
    """A duplicate of spec 2.9, inserted behind the rules' back, fails and leaves nothing."""
    need(world, "constraints")
    await _occupied(world)
    before = await state_of(world)
    with pytest.raises(WorldError):
        await plant(RUN, DUPLICATES[name])
    assert await state_of(rival) == before
    assert await state_of(world) == before
    await create_step(world, RUN, "step_after")


@pytest.mark.anyio
async def test_b204_the_database_refuses_a_second_step(world: World, plant: Plant) -> None:
    """A second row for one (run, step) fails and leaves nothing."""
    need(world, "constraints")
    await _occupied(world)
    step = replace(await world.steps.get(RUN, "step_3"), input=b"planted")
    before = await state_of(world)

    def decide(facts: Facts) -> Decision:
        assert facts.last is not None
        event = an_event(facts.last.position + 1, "noop")
        return Decision(events=(event,), step=step, step_is_new=True, result=EventResult())

    with pytest.raises(WorldError):
        await plant(RUN, decide)
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b204_look_alikes_are_not_refused(world: World, plant: Plant) -> None:
    """What may happen more than once, or in another run, is not taken for a duplicate."""
    await _occupied(world)
    for run_id, event_type, correlation_id in (
        (RUN, "step_started", "step_3"),
        (RUN, "step_started", "step_3"),
        (RUN, "step_retrying", "step_3"),
        (RUN, "step_retrying", "step_3"),
        (RUN, "hook_received", "hook_1"),
        (RUN, "hook_received", "hook_1"),
        (RUN, "run_cancelled", None),
        (RUN, "run_cancelled", None),
        (RUN, "attr_set", None),
        (RUN, "attr_set", None),
        (OTHER_RUN, "step_created", "step_1"),
        (OTHER_RUN, "step_completed", "step_1"),
        (OTHER_RUN, "hook_created", "hook_1"),
        (OTHER_RUN, "wait_created", "wait_1"),
        (OTHER_RUN, "wait_completed", "wait_1"),
        (OTHER_RUN, "attr_set", "attr_1"),
    ):
        before = await all_events(world, run_id)
        await plant(run_id, _event(event_type, correlation_id))
        after = await all_events(world, run_id)
        assert after[:-1] == before
        assert (after[-1].event_type, after[-1].correlation_id) == (event_type, correlation_id)
    planted: list[Event] = await all_events(world, OTHER_RUN)
    assert (planted[0].event_data or {}) == dict(CREATION)
