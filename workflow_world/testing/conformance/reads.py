"""Reads: single rows, lists, filters (B100 to B102, B109, B110, B113).

B112, a constant number of statements, can only be seen below the seam: a SQL backend tests it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ...core.entities import Page
from ...errors import (
    EventNotFoundError,
    HookNotFoundError,
    InvalidRequestError,
    RunNotFoundError,
    StepNotFoundError,
    WaitNotFoundError,
)
from ...world import World
from ..clock import START, ManualClock
from .helpers import (
    OTHER_RUN,
    RUN,
    all_events,
    create_hook,
    create_run,
    create_step,
    end_run,
    send,
    start_run,
    walk,
)


@pytest.mark.anyio
async def test_b100_missing_rows_are_typed_404s(world: World) -> None:
    """runs.get, steps.get, hooks.get, events.get and waits.get of nothing: typed 404."""
    await start_run(world)
    await start_run(world, OTHER_RUN)
    event = (await all_events(world))[0]
    with pytest.raises(RunNotFoundError) as run:
        await world.runs.get("wrun_missing")
    assert run.value.run_id == "wrun_missing"
    with pytest.raises(StepNotFoundError) as step:
        await world.steps.get(RUN, "step_missing")
    assert step.value.step_id == "step_missing"
    with pytest.raises(StepNotFoundError):
        await world.steps.get(None, "step_missing")
    with pytest.raises(HookNotFoundError) as hook:
        await world.hooks.get("hook_missing")
    assert hook.value.hook_id == "hook_missing"
    with pytest.raises(EventNotFoundError) as missing:
        await world.events.get(RUN, "evnt_missing")
    with pytest.raises(EventNotFoundError):
        await world.events.get(OTHER_RUN, event.event_id)
    with pytest.raises(EventNotFoundError):
        await world.events.get("wrun_missing", event.event_id)
    with pytest.raises(WaitNotFoundError) as wait:
        await world.waits.get(RUN, "wait_missing")
    for caught in (run, step, hook, missing, wait):
        assert caught.value.status == 404
    assert await world.events.get(RUN, event.event_id) == event


@pytest.mark.anyio
async def test_b101_step_without_its_run(world: World, clock: ManualClock) -> None:
    """steps.get with run None finds the step: the newest of that id in any run."""
    await start_run(world)
    only = await create_step(world, RUN, "step_only")
    assert await world.steps.get(None, "step_only") == only
    for number in (2, 0, 1):
        clock.advance(1)
        await start_run(world, f"wrun_{number}")
        newest = await create_step(world, f"wrun_{number}", "step_1")
        assert await world.steps.get(None, "step_1") == newest


async def _ids(read: Awaitable[Page[Any]]) -> list[str]:
    return [run.run_id for run in (await read).data]


@pytest.mark.anyio
async def test_b102_runs_list_order(world: World, clock: ManualClock) -> None:
    """runs.list: newest first by default, oldest first on request."""
    for number in (3, 1, 2):
        await create_run(world, f"wrun_{number}")
        clock.advance(1)
    assert await _ids(world.runs.list()) == ["wrun_2", "wrun_1", "wrun_3"]
    assert await _ids(world.runs.list(sort_order="desc")) == ["wrun_2", "wrun_1", "wrun_3"]
    assert await _ids(world.runs.list(sort_order="asc")) == ["wrun_3", "wrun_1", "wrun_2"]
    with pytest.raises(InvalidRequestError):
        await world.runs.list(sort_order="newest")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_b102_runs_list_filters(world: World, clock: ManualClock) -> None:
    """runs.list filters by name, status, statuses, deployment, time and attributes."""
    await create_run(world, "wrun_a", workflowName="one", attributes={"k": "v", "l": "w"})
    clock.advance(1)
    await start_run(world, "wrun_b", workflowName="two", attributes={"k": "v"})
    clock.advance(1)
    await start_run(world, "wrun_c", workflowName="one", deploymentId="dpl_other")
    await end_run(world, "wrun_c", "failed")
    clock.advance(1)
    await create_run(world, "wrun_d", workflowName="one", attributes={"k": "%"})
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "dcba"),
        ({"workflow_name": "one"}, "dca"),
        ({"workflow_name": "One"}, ""),
        ({"workflow_name": "o%"}, ""),
        ({"status": "pending"}, "da"),
        ({"status": ["running", "failed"]}, "cb"),
        ({"status": "cancelled"}, ""),
        ({"deployment_id": "dpl_other"}, "c"),
        ({"created_after": START + timedelta(seconds=0.5)}, "dcb"),
        ({"created_before": START + timedelta(seconds=1.5)}, "ba"),
        (
            {
                "created_after": START + timedelta(seconds=0.5),
                "created_before": START + timedelta(seconds=2.5),
            },
            "cb",
        ),
        ({"attributes": {"k": "v"}}, "ba"),
        ({"attributes": {"k": "v", "l": "w"}}, "a"),
        ({"attributes": {"k": "%"}}, "d"),
        ({"attributes": {"missing": "v"}}, ""),
        (
            {"workflow_name": "one", "status": ["pending", "failed"], "deployment_id": "dpl_test"},
            "da",
        ),
    ]
    for filters, expected in cases:
        found = await _ids(world.runs.list(**filters))
        assert found == [f"wrun_{letter}" for letter in expected], filters
        found = [run.run_id for run in await walk(partial(world.runs.list, **filters), limit=1)]
        assert found == [f"wrun_{letter}" for letter in expected], filters


@pytest.mark.anyio
async def test_b102_foreign_text_in_filters(world: World) -> None:
    """Filters take any text; what no row can hold finds nothing or is a 400, never a 500."""
    key = 'we.ird $."key"\'[0]% 🎉'
    await start_run(world, attributes={key: "'\"%"}, workflowName="a'b\"c;--")
    await create_run(world, OTHER_RUN)
    assert await _ids(world.runs.list(attributes={key: "'\"%"})) == [RUN]
    assert await _ids(world.runs.list(attributes={key: "other"})) == []
    assert await _ids(world.runs.list(workflow_name="a'b\"c;--")) == [RUN]
    for text in ("\ud800", "a\0b", "x" * 2000):
        for read in (
            partial(world.runs.list, workflow_name=text),
            partial(world.runs.list, deployment_id=text),
            partial(world.runs.list, attributes={text: "v"}),
            partial(world.runs.list, attributes={"k": text}),
            partial(world.events.list, RUN, event_types=[text]),
        ):
            with contextlib.suppress(InvalidRequestError):
                assert [*(await read()).data] == [], text
        with pytest.raises(HookNotFoundError):
            await world.hooks.get_by_token(text)


@pytest.mark.anyio
async def test_b102_attributes_with_a_nul(world: World) -> None:
    """A pair is found by its whole key and value, and only where it is a pair."""
    pairs = [("\0", "\0"), ("a\0b", "v"), ("k", "v\0"), ("k", "v\0w"), ("\\u0000", "v")]
    near = [('x"\0', "v"), (':\0"', '\0":"v'), (",", "\0"), ("\\", "\0")]
    for number, (key, value) in enumerate([*pairs, *near]):
        await create_run(world, f"wrun_{number}", attributes={"first": ":", key: value})
    for number, (key, value) in enumerate([*pairs, *near]):
        assert await _ids(world.runs.list(attributes={key: value})) == [f"wrun_{number}"]
    for key, value in (("a\0", "v"), ("k", "v\0x"), ("\0", "v"), ("u0000", "v"), ("", "\0")):
        assert await _ids(world.runs.list(attributes={key: value})) == []


@pytest.mark.anyio
async def test_b102_other_filters(world: World) -> None:
    """steps.list filters by status, events.list by types."""
    await start_run(world)
    for number, ending in enumerate((None, "step_completed", "step_failed", None)):
        await create_step(world, RUN, f"step_{number}")
        if ending is not None:
            await send(world, RUN, ending, f"step_{number}", error=b"")
    pending = await walk(partial(world.steps.list, RUN, status="pending"), limit=1)
    assert {step.step_id for step in pending} == {"step_0", "step_3"}
    both = await walk(partial(world.steps.list, RUN, status=["completed", "failed"]), limit=1)
    assert {step.step_id for step in both} == {"step_1", "step_2"}
    events = await walk(
        partial(world.events.list, RUN, event_types=["step_failed", "run_started"]), limit=1
    )
    assert [event.event_type for event in events] == ["run_started", "step_failed"]


@pytest.mark.anyio
async def test_b109_lists_of_an_unknown_run_are_empty(world: World) -> None:
    """Unknown run: events, steps, hooks, waits and streams are empty, not an error."""
    await start_run(world, OTHER_RUN)
    await create_step(world, OTHER_RUN)
    await create_hook(world, OTHER_RUN)
    for read in (world.events.list, world.steps.list, world.hooks.list, world.waits.list):
        page: Page[Any] = await read(RUN)
        assert ([*page.data], page.cursor, page.has_more) == ([], None, False)
    page = await world.events.list_by_correlation_id("step_1", run_id=RUN)
    assert ([*page.data], page.has_more) == ([], False)
    assert [*await world.streams.list(RUN)] == []


@pytest.mark.anyio
async def test_b110_events_by_correlation_id(world: World, clock: ManualClock) -> None:
    """List by correlation id, with and without run, in both orders."""
    await start_run(world)
    await start_run(world, OTHER_RUN)
    for run_id in (RUN, OTHER_RUN):
        await create_step(world, run_id, "step_1")
        await create_step(world, run_id, "step_2")
    for run_id, event_type in (
        (OTHER_RUN, "step_started"),
        (RUN, "step_started"),
        (OTHER_RUN, "step_completed"),
        (RUN, "step_completed"),
    ):
        clock.advance(1)
        await send(world, run_id, event_type, "step_1")
    events = [*await all_events(world), *await all_events(world, OTHER_RUN)]
    both = sorted(
        (event for event in events if event.correlation_id == "step_1"),
        key=lambda event: (event.created_at, event.run_id, event.position),
    )
    own = [event for event in both if event.run_id == RUN]
    assert (len(both), len(own)) == (6, 3)
    read = partial(world.events.list_by_correlation_id, "step_1")
    for limit in (None, 1, 2):
        assert await walk(read, limit) == both
        assert await walk(partial(read, sort_order="desc"), limit) == both[::-1]
        assert await walk(partial(read, run_id=RUN), limit) == own
        assert await walk(partial(read, run_id=RUN, sort_order="desc"), limit) == own[::-1]
    assert [*(await world.events.list_by_correlation_id("step_9")).data] == []


@pytest.mark.anyio
async def test_b113_runs_get_many(world: World) -> None:
    """runs.get_many keeps order and gives None for missing."""
    for number in range(3):
        await create_run(world, f"wrun_{number}")
    asked = ["wrun_2", "wrun_missing", "wrun_0", "wrun_2"]
    found = await world.runs.get_many(asked)
    assert [run and run.run_id for run in found] == ["wrun_2", None, "wrun_0", "wrun_2"]
    assert found[0] == await world.runs.get("wrun_2")
    assert [*await world.runs.get_many([])] == []
    many = [f"wrun_{number}" for number in range(1500)]
    found = await world.runs.get_many(many)
    assert [run is not None for run in found] == [*[True] * 3, *[False] * 1497]
