"""Reads: single rows, lists, pages, filters (B100 to B113).

B112, a constant number of statements, can only be seen below the seam: a SQL backend tests it.
"""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest

from ...core.entities import ABSENT, Page
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
from .fixtures import MakeWorld, Plant
from .helpers import (
    CREATION,
    OTHER_RUN,
    RUN,
    SOON,
    a_run,
    all_events,
    an_event,
    create_hook,
    create_run,
    create_step,
    create_wait,
    end_run,
    plain,
    planting_run,
    receive,
    send,
    start_run,
    walk,
)

COUNT: Final = 11
Read = Callable[..., Awaitable[Page[Any]]]


async def _fill(world: World, clock: ManualClock, step: float) -> None:
    """COUNT runs, and one of them with COUNT steps, hooks and waits, ``step`` seconds apart."""
    for number in range(COUNT - 1):
        await create_run(world, f"wrun_{number:02d}")
        clock.advance(step)
    await start_run(world)
    for number in range(COUNT):
        await create_step(world, RUN, f"step_{number:02d}")
        await create_hook(world, RUN, f"hook_{number:02d}", f"token {number}")
        await create_wait(world, RUN, f"wait_{number:02d}")
        clock.advance(step)
    for _ in range(COUNT - 1):
        await receive(world, RUN, "hook_00")


def lists(world: World) -> Mapping[str, Read]:
    """Every list that pages."""
    return {
        "runs": world.runs.list,
        "steps": partial(world.steps.list, RUN),
        "events": partial(world.events.list, RUN),
        "hooks": world.hooks.list,
        "hooks of a run": partial(world.hooks.list, RUN),
        "waits": world.waits.list,
        "waits of a run": partial(world.waits.list, RUN),
        "correlation": partial(world.events.list_by_correlation_id, "hook_00"),
        "correlation in a run": partial(world.events.list_by_correlation_id, "hook_00", run_id=RUN),
    }


LISTS: Final = (
    *("runs", "steps", "events", "hooks", "hooks of a run", "waits", "waits of a run"),
    *("correlation", "correlation in a run"),
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
@pytest.mark.parametrize("gap", [0, 0.001], ids=["one millisecond", "apart"])
async def test_b103_pages_join_to_the_whole(world: World, clock: ManualClock, gap: float) -> None:
    """Walking with limit 1, 2 and 7 yields every row once, in order, in every list."""
    await _fill(world, clock, gap)
    for name, read in lists(world).items():
        up = [*(await read(sort_order="asc")).data]
        assert len(up) == {"events": 2 + 4 * COUNT - 1}.get(name, COUNT), name
        down = [*(await read(sort_order="desc")).data]
        assert down == up[::-1], name
        assert [*(await read()).data] == (down if name in ("runs", "steps") else up), name
        for limit in (1, 2, 7):
            assert await walk(partial(read, sort_order="asc"), limit) == up, (name, limit)
            assert await walk(partial(read, sort_order="desc"), limit) == down, (name, limit)


@pytest.mark.anyio
async def test_b104_rows_of_one_millisecond(world: World) -> None:
    """50 rows created in the same millisecond page without loss."""
    await start_run(world)
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in range(49)))
    await asyncio.gather(*(create_step(world, RUN, f"step_{number}") for number in range(50)))
    await asyncio.gather(
        *(create_hook(world, RUN, f"hook_{number}", f"token {number}") for number in range(50))
    )
    expected = {"runs": 50, "steps": 50, "hooks": 50, "hooks of a run": 50, "events": 102}
    for name, count in expected.items():
        for limit in (3, 50, 1000):
            for order in ("asc", "desc"):
                rows = await walk(partial(lists(world)[name], sort_order=order), limit)
                assert len(rows) == count, (name, limit, order)
                assert len({repr(row) for row in rows}) == count, (name, limit, order)
    steps = await walk(partial(world.steps.list, RUN), 7)
    assert {step.created_at for step in steps} == {START}


@pytest.mark.anyio
@pytest.mark.parametrize("name", LISTS)
async def test_b105_has_more_is_exact(world: World, clock: ManualClock, name: str) -> None:
    """has_more is False exactly at the end; the cursor of a last page is None but for events."""
    await _fill(world, clock, 0.001)
    read = lists(world)[name]
    rows = [*(await read()).data]
    for limit in (len(rows) - 1, len(rows), len(rows) + 1, 1000):
        page = await read(limit=limit)
        assert page.has_more is (limit < len(rows))
        assert [*page.data] == rows[:limit]
    assert ((await read(limit=len(rows))).cursor is None) is (name != "events")
    before_last = await read(limit=len(rows) - 1)
    last = await read(limit=1, cursor=before_last.cursor)
    assert ([*last.data], last.has_more) == (rows[-1:], False)


@pytest.mark.anyio
async def test_b105_limits(world: World, plant: Plant) -> None:
    """A limit above 1000 clamps; 0, a negative one and None use the default."""
    rows = [
        an_event(1, "run_created", event_data=dict(CREATION)),
        *(an_event(position, "noop", correlation_id="c") for position in range(2, 1004)),
    ]
    await plant(RUN, planting_run(a_run(), *rows))
    for limit in (None, 0, -1, 1000, 1001, 10**9):
        page = await world.events.list(RUN, limit=limit)
        assert (len(page.data), page.has_more) == (1000, True), limit
        rest = await world.events.list(RUN, limit=limit, cursor=page.cursor)
        assert [*page.data, *rest.data] == rows
        assert rest.has_more is False
    for limit, size in ((None, 100), (0, 100), (-5, 100), (101, 101), (5000, 1000)):
        page = await world.events.list_by_correlation_id("c", limit=limit)
        assert (len(page.data), page.has_more) == (size, True), limit


@pytest.mark.anyio
async def test_b105_default_limits(world: World) -> None:
    """The default limit of runs, steps, hooks and waits is 100."""
    await start_run(world)
    numbers = range(101)
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in numbers))
    await asyncio.gather(*(create_step(world, RUN, f"step_{number}") for number in numbers))
    await asyncio.gather(*(create_wait(world, RUN, f"wait_{number}") for number in numbers))
    await asyncio.gather(
        *(create_hook(world, RUN, f"hook_{number}", f"token {number}") for number in numbers)
    )
    for name in ("runs", "steps", "hooks", "waits"):
        for limit in (None, 0, -1):
            page = await lists(world)[name](limit=limit)
            assert (len(page.data), page.has_more) == (100, True), name
        page = await lists(world)[name](limit=1001)
        assert (len(page.data), page.has_more) == (102 if name == "runs" else 101, False), name


@pytest.mark.anyio
async def test_b106_the_last_cursor_of_a_log_goes_on(world: World, rival: World) -> None:
    """events.list: the final cursor fetches later events; an empty page echoes its cursor."""
    empty = await world.events.list(RUN)
    assert ([*empty.data], empty.cursor, empty.has_more) == ([], None, False)
    await start_run(world)
    page = await world.events.list(RUN)
    assert page.has_more is False
    assert page.cursor is not None
    for _ in range(2):
        nothing = await world.events.list(RUN, cursor=page.cursor)
        assert ([*nothing.data], nothing.cursor, nothing.has_more) == ([], page.cursor, False)
    for number in range(3):
        await create_step(rival, RUN, f"step_{number}")
        later = await world.events.list(RUN, cursor=page.cursor)
        assert [event.correlation_id for event in later.data] == [f"step_{number}"]
        assert later.has_more is False
        page = later
    again = await rival.events.list(RUN, limit=2)
    rest = await rival.events.list(RUN, limit=3, cursor=again.cursor)
    assert rest.cursor is not None
    assert rest.cursor == page.cursor


@pytest.mark.anyio
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_b107_inserts_and_deletes_do_not_disturb_a_walk(
    world: World, make_world: MakeWorld, clock: ManualClock, order: str
) -> None:
    """Rows inserted or deleted during a walk: those that stood all the while come once."""
    behind = make_world(clock=(late := ManualClock()))
    late.advance(-60)
    await _fill(world, clock, 0.001)
    readers = {name: partial(read, sort_order=order) for name, read in lists(world).items()}
    before = {name: [*(await read()).data] for name, read in readers.items()}
    pages = {name: await read(limit=4) for name, read in readers.items()}
    seen = {name: [*page.data] for name, page in pages.items()}
    gone = {seen["hooks"][3].hook_id, seen["hooks"][0].hook_id, "hook_05"} - {"hook_00"}
    for hook_id in sorted(gone):
        await send(world, RUN, "hook_disposed", hook_id)
    for one, run_id in ((world, "wrun_new"), (behind, "wrun_old")):
        await start_run(one, run_id)
        await create_hook(one, run_id, "hook_00", f"token of {run_id}")
        await create_wait(one, run_id, "wait_new")
    for number in range(3):
        await create_step(world, RUN, f"step_new_{number}")
        await create_step(behind, RUN, f"step_0{number}x")
        await receive(world, RUN, "hook_00")
    for name, read in readers.items():
        cursor = pages[name].cursor
        while cursor is not None:
            page = await read(limit=2, cursor=cursor)
            seen[name].extend(page.data)
            cursor = page.cursor if page.has_more else None
        names = [repr(one) for one in seen[name]]
        assert len(names) == len(set(names)), name
        stayed = [one for one in before[name] if not ("hooks" in name and one.hook_id in gone)]
        kept = [one for one in seen[name] if one in stayed]
        assert kept == stayed, name


@pytest.mark.anyio
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "cursor", ["garbage", "!!!", "e30", "bnVsbA", "\0", "é", "W10", "a" * 5000]
)
async def test_b108_malformed_cursor(world: World, name: str, cursor: str) -> None:
    """A malformed cursor: 400."""
    await create_run(world)
    with pytest.raises(InvalidRequestError) as caught:
        await lists(world)[name](cursor=cursor)
    assert caught.value.status == 400


@pytest.mark.anyio
async def test_b108_a_cursor_of_another_list(world: World, clock: ManualClock) -> None:
    """A cursor is valid only with the same operation, filters and order."""
    await _fill(world, clock, 0)
    readers = lists(world)
    cursors = {name: (await read(limit=2)).cursor for name, read in readers.items()}
    for name, read in readers.items():
        assert (await read(limit=2, cursor=cursors[name])).data
        for other, cursor in cursors.items():
            if other != name:
                with pytest.raises(InvalidRequestError):
                    await read(cursor=cursor)
        turned = "asc" if name in ("runs", "steps") else "desc"
        with pytest.raises(InvalidRequestError):
            await read(cursor=cursors[name], sort_order=turned)
    with pytest.raises(InvalidRequestError):
        await world.runs.list(cursor=cursors["runs"], workflow_name="greet")
    with pytest.raises(InvalidRequestError):
        await world.runs.list(cursor=cursors["runs"], status="pending")
    with pytest.raises(InvalidRequestError):
        await world.steps.list(OTHER_RUN, cursor=cursors["steps"])
    with pytest.raises(InvalidRequestError):
        await world.events.list(RUN, cursor=cursors["events"], event_types=["noop"])


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


STRIPPED: Final[Mapping[str, Mapping[str, Any] | None]] = {
    "run_created": {"deploymentId": "dpl_test", "workflowName": "greet", "attributes": {"k": "v"}},
    "run_started": None,
    "step_created": {"stepName": "add"},
    "step_started": None,
    "step_retrying": {"retryAfter": START},
    "step_completed": None,
    "step_failed": None,
    "hook_created": {"token": "token", "isWebhook": False},
    "hook_received": None,
    "hook_conflict": {"token": "token", "conflictingRunId": RUN},
    "hook_disposed": None,
    "wait_created": {"resumeAt": SOON},
    "attr_set": {"changes": [{"key": "k", "value": None}], "writer": {"type": "workflow"}},
    "run_completed": None,
    "run_failed": {"errorCode": "USER_ERROR"},
    "run_cancelled": {"cancelReason": "why"},
}
"""The event data that ``resolve_data="none"`` leaves (spec 3.5)."""


async def _tell_everything(world: World, resolve_data: str) -> dict[str, Any]:
    """Write every event type; the results by type."""
    results: dict[str, Any] = {}

    async def write(
        run_id: str, event_type: str, correlation_id: str | None = None, /, **data: Any
    ) -> None:
        event = {"eventType": event_type, "correlationId": correlation_id, "eventData": data}
        result = await world.events.create(run_id, event, resolve_data=resolve_data)  # type: ignore[arg-type]
        assert result.event is not None
        results[result.event.event_type] = result

    await write(RUN, "run_created", **CREATION, attributes={"k": "v"})
    await write(RUN, "run_started")
    for number in (1, 2):
        await write(RUN, "step_created", f"step_{number}", stepName="add", input=b"in")
    await write(RUN, "step_retrying", "step_1", error=b"e", retryAfter=START)
    await write(RUN, "step_started", "step_1")
    await write(RUN, "step_completed", "step_1", result=b"out")
    await write(RUN, "step_failed", "step_2", error={"message": "legacy"})
    await write(RUN, "hook_created", "hook_1", token="token", metadata=b"m", isWebhook=False)
    await write(RUN, "hook_received", "hook_1", payload=b"p")
    await write(RUN, "hook_created", "hook_2", token="token")
    await write(RUN, "wait_created", "wait_1", resumeAt=SOON)
    await write(
        RUN,
        "attr_set",
        "attr_1",
        changes=[{"key": "k", "value": None}],
        writer={"type": "workflow"},
    )
    return results


@pytest.mark.anyio
async def test_b111_resolve_data_none_on_events(world: World) -> None:
    """resolve_data none strips exactly the payload keys of events; all is the default."""
    results = await _tell_everything(world, "none")
    await send(world, RUN, "hook_disposed", "hook_1")
    await send(world, RUN, "run_completed", output=b"out")
    await start_run(world, "wrun_failed")
    await send(world, "wrun_failed", "run_failed", error=b"e", errorCode="USER_ERROR")
    await start_run(world, "wrun_cancelled")
    await send(world, "wrun_cancelled", "run_cancelled", cancelReason="why")
    assert {name: result.event.event_data for name, result in results.items()} == {
        name: STRIPPED[name] for name in results
    }
    for run_id in (RUN, "wrun_failed", "wrun_cancelled"):
        full = await all_events(world, run_id)
        assert [
            plain(event) for event in (await world.events.list(run_id, resolve_data="all")).data
        ] == full
        assert (full[0].event_data or {})["input"] == b"in"
        bare = [*(await world.events.list(run_id, resolve_data="none")).data]
        for event, stripped in zip(full, bare, strict=True):
            assert (stripped.event_id, stripped.position) == (event.event_id, event.position)
            if run_id == RUN or event.event_type not in ("run_created", "run_started"):
                assert stripped.event_data == STRIPPED[event.event_type], event.event_type
            one = await world.events.get(run_id, event.event_id, resolve_data="none")
            assert plain(one) == plain(stripped)
            assert plain(await world.events.get(run_id, event.event_id)) == event
    hook_rows = await world.events.list_by_correlation_id("hook_1", resolve_data="none")
    assert [event.event_data for event in hook_rows.data] == [
        *(STRIPPED["hook_created"], None, None)
    ]


@pytest.mark.anyio
async def test_b111_resolve_data_none_on_entities(world: World) -> None:
    """resolve_data none strips input, output, binary errors and metadata, nothing else."""
    results = await _tell_everything(world, "none")
    assert results["run_created"].run.input is ABSENT
    assert results["step_started"].step.input is ABSENT
    assert results["step_started"].step.error is ABSENT
    assert results["step_failed"].step.error == {"message": "legacy"}
    assert results["hook_created"].hook.metadata is ABSENT
    hook = await world.hooks.get("hook_1")
    assert hook.metadata == b"m"
    for bare in (
        await world.hooks.get("hook_1", resolve_data="none"),
        await world.hooks.get_by_token("token", resolve_data="none"),
        (await world.hooks.list(RUN, resolve_data="none")).data[0],
    ):
        assert (bare.metadata, bare.token, bare.is_webhook) == (ABSENT, "token", False)
    await send(world, RUN, "run_completed", output=b"out")
    step = await world.steps.get(RUN, "step_1")
    assert (step.input, step.output, step.error) == (b"in", b"out", b"e")
    listed = {one.step_id: one for one in (await world.steps.list(RUN, resolve_data="none")).data}
    for bare_step in (
        await world.steps.get(RUN, "step_1", resolve_data="none"),
        listed["step_1"],
    ):
        assert (bare_step.input, bare_step.output, bare_step.error) == (ABSENT, ABSENT, ABSENT)
        assert (bare_step.step_name, bare_step.status, bare_step.attempt) == ("add", "completed", 1)
    assert listed["step_2"].error == {"message": "legacy"}
    await start_run(world, "wrun_binary")
    await send(world, "wrun_binary", "run_failed", error=b"e", errorCode="C")
    await start_run(world, "wrun_legacy")
    await send(world, "wrun_legacy", "run_failed", error={"message": "m"})
    bare_runs = {run.run_id: run for run in (await world.runs.list(resolve_data="none")).data}
    for run_id, expected in (
        (RUN, ABSENT),
        ("wrun_binary", ABSENT),
        ("wrun_legacy", {"message": "m"}),
    ):
        full = await world.runs.get(run_id)
        assert full.input == b"in"
        for bare_run in (
            bare_runs[run_id],
            await world.runs.get(run_id, resolve_data="none"),
        ):
            assert (bare_run.input, bare_run.output) == (ABSENT, ABSENT)
            assert bare_run.error == expected
            assert bare_run.error_code == full.error_code
            assert (bare_run.status, bare_run.attributes) == (full.status, full.attributes)
    assert {run.run_id for run in (await world.runs.list()).data if run.input == b"in"} == {
        *bare_runs
    }


@pytest.mark.anyio
async def test_b111_resolve_data_takes_two_values(world: World) -> None:
    """Anything but all and none is a 400."""
    await create_run(world)
    with pytest.raises(InvalidRequestError):
        await world.runs.get(RUN, resolve_data="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        await world.events.list(RUN, resolve_data="")  # type: ignore[arg-type]


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
