"""A write is whole or absent, whatever happens (B097 to B099)."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pytest

from ... import faults
from ...core.entities import Event, Run
from ...errors import InvalidRequestError, WorldError
from ...world import World
from .helpers import (
    CREATION,
    RUN,
    SAMPLES,
    State,
    create_hook,
    create_run,
    create_step,
    create_wait,
    creation,
    end_run,
    need,
    receive,
    send,
    send_sample,
    set_attributes,
    start_run,
    start_step,
    state_of,
)
from .replay import check_log, replayed

KILLS: Final = 5


async def _started(world: World, run_id: str) -> None:
    await start_run(world, run_id)


async def _furnished(world: World, run_id: str) -> None:
    """A run with a pending and a running step, a hook with a payload, and a wait."""
    await start_run(world, run_id, attributes={"a": "1"})
    await create_step(world, run_id, "step_1")
    await create_step(world, run_id, "step_2")
    await start_step(world, run_id, "step_2")
    await create_hook(world, run_id, token=run_id)
    await receive(world, run_id, resume_id="earlier", digest="d")
    await create_wait(world, run_id)


async def _nothing(world: World, run_id: str) -> None:
    await world.runs.get_many([run_id])


Act = Callable[[World, str], Awaitable[object]]
WRITES: Final[Mapping[str, tuple[Act, Act, int]]] = MappingProxyType(
    {
        "run_created": (_nothing, create_run, 1),
        "resilient start": (
            _nothing,
            lambda world, run_id: send(world, run_id, "run_started", **CREATION),
            2,
        ),
        "attr_set": (
            _started,
            lambda world, run_id: set_attributes(world, "attr_1", ("k", "v"), run_id=run_id),
            1,
        ),
        "step_created": (_started, create_step, 1),
        "step_started": (_furnished, start_step, 1),
        "step_retrying": (
            _furnished,
            lambda world, run_id: send_sample(world, run_id, "step_retrying", "step_2"),
            1,
        ),
        "step_completed": (
            _furnished,
            lambda world, run_id: send_sample(world, run_id, "step_completed", "step_2"),
            1,
        ),
        "hook_created": (
            _started,
            lambda world, run_id: create_hook(world, run_id, token=run_id),
            1,
        ),
        "hook_conflict": (
            _furnished,
            lambda world, run_id: send(world, run_id, "hook_created", "hook_2", token=run_id),
            1,
        ),
        "hook_received": (
            _furnished,
            lambda world, run_id: receive(world, run_id, resume_id="r", digest="d"),
            1,
        ),
        "hook_disposed": (
            _furnished,
            lambda world, run_id: send(world, run_id, "hook_disposed", "hook_1"),
            1,
        ),
        "wait_created": (_started, create_wait, 1),
        "wait_completed": (
            _furnished,
            lambda world, run_id: send(world, run_id, "wait_completed", "wait_1"),
            1,
        ),
        "run_completed": (_furnished, end_run, 1),
        "run_cancelled": (
            _furnished,
            lambda world, run_id: end_run(world, run_id, "cancelled"),
            1,
        ),
    }
)
"""Name -> how to prepare a run, the write to disturb, and how many events it appends."""


class BrokenDatabaseError(Exception):
    """What an armed fault point raises."""


def sound(before: State, after: State, added: int) -> bool:
    """Whether the write happened. Fails unless all of it did, or nothing at all."""
    check_log(after.events)
    assert after == replayed(after.events)
    assert [*after.events][: len(before.events)] == [*before.events]
    if len(after.events) == len(before.events):
        assert after == before
        return False
    assert len(after.events) == len(before.events) + added
    return True


async def points_of(world: World, prepare: Act, write: Act) -> list[str]:
    """The fault points that an undisturbed write reaches, in order."""
    await prepare(world, "wrun_probe")
    reached: list[str] = []
    with faults.armed(reached.append):
        await write(world, "wrun_probe")
    return reached


@pytest.mark.anyio
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("name", WRITES)
async def test_b097_a_failure_leaves_nothing_or_all(
    world: World, rival: World, name: str, lasting: bool
) -> None:
    """A failure at any fault point of a write leaves neither entity nor event, or both."""
    prepare, write, added = WRITES[name]
    points = await points_of(world, prepare, write)
    assert points or not world.backend.capabilities.constraints, (
        "a backend on a database must have fault points in its writes"
    )
    for number, name_of_point in enumerate(points):
        if lasting and name_of_point.startswith(faults.READ):
            continue  # what comes behind it fails as well
        run_id = f"wrun_{number}"
        await prepare(world, run_id)
        before = await state_of(rival, run_id)
        reached = itertools.count()

        def fail(point: str, reached: itertools.count[int] = reached, number: int = number) -> None:
            index = next(reached)
            if index == number or (lasting and index > number):
                raise BrokenDatabaseError(point)

        failed = False
        with faults.armed(fail):
            try:
                await write(world, run_id)
            except Exception:
                failed = True
        happened = sound(before, await state_of(rival, run_id), added)
        assert happened or failed, f"lost a write at point {number}, {points[number]}"
        if not happened:
            await write(world, run_id)
        assert sound(before, await state_of(rival, run_id), added)
        assert await state_of(world, run_id) == await state_of(rival, run_id)


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", SAMPLES)
async def test_b097_a_value_that_cannot_be_stored_leaves_nothing(
    world: World, rival: World, event_type: str
) -> None:
    """Event data that no store can hold: 400 and no trace, neither of the event nor of what it
    would have changed (spec 2.1), also when others are writing at the same time."""
    group, bad = event_type.partition("_")[0], {"deep": [object()]}
    data: dict[str, Any] = {**SAMPLES[event_type], "token": "token 9", "extra": bad}
    run_id, correlation_id = RUN, None if group == "run" else f"{group}_1"
    if event_type in ("run_created", "run_started"):
        run_id, data = "wrun_new", creation(executionContext=bad)
    elif event_type.endswith("_created"):
        correlation_id = f"{group}_9"
    await _furnished(world, RUN)
    before = await state_of(world, run_id)
    outcomes = await asyncio.gather(
        start_run(world, "wrun_neighbour"),
        send(world, run_id, event_type, correlation_id, **data),
        start_run(world, "wrun_other_neighbour"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], InvalidRequestError)
    assert await state_of(rival, run_id) == before
    assert await state_of(world, run_id) == before
    assert [one.status for one in outcomes[::2] if isinstance(one, Run)] == ["running"] * 2


@pytest.mark.anyio
async def test_b097_a_text_that_cannot_be_stored_harms_nobody(world: World, rival: World) -> None:
    """Text that is no Unicode, where only the database would notice: at worst a WorldError for
    who sent it, and nothing for who writes at the same time."""
    await _furnished(world, RUN)
    before = await state_of(world)
    outcomes = await asyncio.gather(
        *(start_run(world, f"wrun_{number}") for number in range(4)),
        receive(world, resume_id="r", digest="\ud800"),
        *(start_run(world, f"wrun_{number}") for number in range(4, 8)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[4], WorldError | Event)
    assert [one.status for one in outcomes if isinstance(one, Run)] == ["running"] * 8
    assert sound(before, await state_of(rival), 1) is isinstance(outcomes[4], Event)


@pytest.mark.anyio
async def test_b097_a_failure_does_not_touch_other_runs(world: World, rival: World) -> None:
    """One failure while 8 runs are written at once: each write is whole or absent, and the
    database goes on."""
    for number in itertools.count():
        runs = [f"wrun_{number}_{index}" for index in range(8)]
        await asyncio.gather(*(_furnished(world, run_id) for run_id in runs))
        before = [await state_of(rival, run_id) for run_id in runs]
        reached = itertools.count()

        def fail(point: str, reached: itertools.count[int] = reached, number: int = number) -> None:
            if next(reached) == number * 4:
                raise BrokenDatabaseError(point)

        with faults.armed(fail):
            outcomes = await asyncio.gather(
                *(start_step(world, run_id) for run_id in runs), return_exceptions=True
            )
        for run_id, state, outcome in zip(runs, before, outcomes, strict=True):
            happened = sound(state, await state_of(rival, run_id), 1)
            assert happened or isinstance(outcome, BaseException), run_id
            if not happened:
                await start_step(world, run_id)
            assert sound(state, await state_of(world, run_id), 1)
        if next(reached) <= number * 4:
            break


@pytest.mark.anyio
async def test_b098_a_killed_writer_leaves_whole_writes(
    world: World, child_source: str | None
) -> None:
    """kill -9 of a writer in a loop: each entity equals the replay of its log, and nothing
    that was accepted is missing."""
    need(world, "durable")
    need(world, "cross_process")
    if child_source is None:
        pytest.skip("backend gives no way to open itself in a child process")
    chance = random.Random(98)  # noqa: S311  # which moment, nothing secret
    await world.runs.get_many([RUN])
    for kill in range(KILLS):
        accepted = await _killed_after(child_source, str(kill), chance.randrange(1, 150))
        assert accepted
        for run_id, count in accepted.items():
            state = await state_of(world, run_id)
            check_log(state.events)
            assert state == replayed(state.events)
            assert len(state.events) >= count
        unfinished = [run_id for run_id in accepted if not await _has_ended(world, run_id)]
        for run_id in unfinished:
            await send(world, run_id, "run_cancelled")
            state = await state_of(world, run_id)
            assert state == replayed(state.events)


async def _has_ended(world: World, run_id: str) -> bool:
    return (await world.runs.get(run_id)).is_final


async def _killed_after(child_source: str, name: str, lines: int) -> dict[str, int]:
    """Start a writer, kill it after so many accepted writes; run id -> accepted events."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{child_source}\nfrom {__package__}.writer import main\nmain(open_handle, {name!r})\n",
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    accepted: dict[str, int] = {}
    try:
        while line := await child.stdout.readline():
            run_id, _, count = line.decode().strip().partition(" ")
            accepted[run_id] = int(count)
            lines -= 1
            if lines == 0:
                child.kill()
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    assert lines <= 0, "the writer ended by itself"
    return accepted


CANCELLED: Final = ("attr_set", "step_started", "hook_created", "wait_completed")


async def after_cancelling(world: World, rival: World, run_id: str, before: State) -> None:
    """The cancelled write left all or nothing, and both handles can go on writing."""
    writer = {"type": "step", "stepId": "step_1", "attempt": 1}
    for one in (world, rival):
        await send(one, run_id, "attr_set", changes=[{"key": "z", "value": "z"}], writer=writer)
    state = await state_of(rival, run_id)
    check_log(state.events)
    assert state == replayed(state.events)
    assert len(state.events) - len(before.events) in (2, 3)
    assert await state_of(world, run_id) == state


@pytest.mark.anyio
@pytest.mark.parametrize("name", CANCELLED)
async def test_b099_cancelled_after_some_turns_of_the_loop(
    world: World, rival: World, name: str
) -> None:
    """A task cancelled during a write, after 0 to 19 turns of the event loop, leaves all or
    nothing and no held lock."""
    prepare, write, _ = WRITES[name]
    for turns in range(20):
        run_id = f"wrun_{turns}"
        await prepare(world, run_id)
        before = await state_of(rival, run_id)
        neighbour = asyncio.ensure_future(start_run(world, f"wrun_neighbour_{turns}"))
        task = asyncio.ensure_future(write(world, run_id))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await neighbour).status == "running"
        await after_cancelling(world, rival, run_id, before)


class CancelAt:
    """A fault point action: cancels ``task`` when the ``number``-th point is reached, from
    whatever thread the write runs in, and goes on when the cancellation was delivered."""

    def __init__(self, number: int) -> None:
        self.task: asyncio.Future[object] | None = None
        self._left = number
        self._loop = asyncio.get_running_loop()
        self._home = threading.get_ident()
        self._cancelled = threading.Event()

    def __call__(self, point: str) -> None:
        self._left -= 1
        if self._left != -1:
            return
        if threading.get_ident() == self._home:
            self._cancel()
        else:
            self._loop.call_soon_threadsafe(self._cancel)
            assert self._cancelled.wait(60), f"the event loop stands still at {point}"

    def _cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()
        self._cancelled.set()


@pytest.mark.anyio
@pytest.mark.parametrize("name", CANCELLED)
async def test_b099_cancelled_at_each_fault_point(world: World, rival: World, name: str) -> None:
    """A task cancelled while its write stands at a fault point leaves all or nothing."""
    prepare, write, _ = WRITES[name]
    points = await points_of(world, prepare, write)
    for number, name_of_point in enumerate(points):
        if name_of_point.startswith(faults.READ):
            continue  # the point behind it is as good
        run_id = f"wrun_{number}"
        await prepare(world, run_id)
        before = await state_of(rival, run_id)
        action = CancelAt(number)
        with faults.armed(action):
            action.task = asyncio.ensure_future(write(world, run_id))
            await asyncio.gather(action.task, return_exceptions=True)
        await after_cancelling(world, rival, run_id, before)
