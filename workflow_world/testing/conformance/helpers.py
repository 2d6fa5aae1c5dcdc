"""Small builders and checks that the modules of the suite share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

import pytest

from ...core.decision import Decision, Facts
from ...core.entities import Event, EventResult, Hook, Page, Run, RunStatus, Step, Wait
from ...core.events import CURRENT_SPEC_VERSION, NewEvent
from ...errors import WorldError
from ...ids import new_id
from ...world import World
from ..clock import START

RUN: Final = "wrun_one"
OTHER_RUN: Final = "wrun_two"
ENDINGS: Final[tuple[RunStatus, ...]] = ("completed", "failed", "cancelled")
CALLERS: Final = 8

T = TypeVar("T")
SOON: Final = START + timedelta(seconds=60)
"""A minute after the manual clock's start."""

CREATION: Final[Mapping[str, Any]] = MappingProxyType(
    {"deploymentId": "dpl_test", "workflowName": "greet", "input": b"in"}
)
"""What ``run_created`` needs, and what a resilient ``run_started`` carries."""

SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "run_created": CREATION,
        "run_started": {},
        "run_completed": {"output": b"out"},
        "run_failed": {"error": b"err", "errorCode": "USER_ERROR"},
        "run_cancelled": {},
        "attr_set": {"changes": [{"key": "k", "value": "v"}], "writer": {"type": "workflow"}},
        "step_created": {"stepName": "add", "input": b"in"},
        "step_started": {},
        "step_retrying": {"error": b"err"},
        "step_completed": {"result": b"out"},
        "step_failed": {"error": b"err"},
        "hook_created": {"token": "token"},
        "hook_received": {"payload": b"payload"},
        "hook_disposed": {},
        "wait_created": {"resumeAt": SOON},
        "wait_completed": {},
    }
)
"""Valid data for each type that a caller may send."""


def creation(**changes: Any) -> dict[str, Any]:
    """Creation data with some of it changed."""
    return {**CREATION, **changes}


_UNCORRELATED = ("run_created", "run_started", "run_completed", "run_failed", "run_cancelled")


async def send(
    world: World,
    run_id: str | None,
    event_type: str,
    correlation_id: str | None = None,
    /,
    *,
    spec_version: int = CURRENT_SPEC_VERSION,
    **data: Any,
) -> EventResult:
    """Create one event; the keywords are its data, in the wire's camelCase."""
    event = NewEvent(
        event_type=event_type,
        correlation_id=correlation_id,
        spec_version=spec_version,
        event_data=data or None,
    )
    return await world.events.create(run_id, event)


async def send_sample(
    world: World, run_id: str, event_type: str, correlation_id: str = "id_1"
) -> EventResult:
    """Create an event of any type a caller may send, with valid data."""
    correlation = None if event_type in _UNCORRELATED else correlation_id
    return await send(world, run_id, event_type, correlation, **SAMPLES[event_type])


def row(result: EventResult) -> Event:
    """The event of a result that must have one."""
    assert result.event is not None
    return plain(result.event)


def plain(event: Event) -> Event:
    """The event without ``due_at``: a mark of ours that goes when the wait is over."""
    return replace(event, due_at=None)


async def create_run(
    world: World, run_id: str = RUN, *, spec_version: int = CURRENT_SPEC_VERSION, **data: Any
) -> Run:
    """A pending run; ``data`` goes over the creation data."""
    result = await send(world, run_id, "run_created", spec_version=spec_version, **creation(**data))
    assert result.run is not None
    return result.run


async def start_run(
    world: World, run_id: str = RUN, *, spec_version: int = CURRENT_SPEC_VERSION, **data: Any
) -> Run:
    """A running run."""
    await create_run(world, run_id, spec_version=spec_version, **data)
    result = await send(world, run_id, "run_started", spec_version=spec_version)
    assert result.run is not None
    return result.run


async def end_run(world: World, run_id: str = RUN, status: RunStatus = "completed") -> Run:
    """End a run with the final status."""
    result = await send_sample(world, run_id, f"run_{status}")
    assert result.run is not None
    return result.run


async def create_step(
    world: World, run_id: str = RUN, step_id: str = "step_1", **data: Any
) -> Step:
    """A pending step."""
    result = await send(
        world, run_id, "step_created", step_id, **{**SAMPLES["step_created"], **data}
    )
    assert result.step is not None
    return result.step


async def start_step(world: World, run_id: str = RUN, step_id: str = "step_1") -> Step:
    """Start a step that exists."""
    result = await send(world, run_id, "step_started", step_id)
    assert result.step is not None
    return result.step


async def create_hook(
    world: World,
    run_id: str = RUN,
    hook_id: str = "hook_1",
    token: str = "token",  # noqa: S107  # a hook's token is no secret of ours
    **data: Any,
) -> Hook:
    """A live hook."""
    result = await send(world, run_id, "hook_created", hook_id, token=token, **data)
    assert result.hook is not None, f"{hook_id} became {result.event}"
    return result.hook


async def receive(
    world: World,
    run_id: str = RUN,
    hook_id: str = "hook_1",
    payload: object = b"payload",
    *,
    resume_id: str | None = None,
    digest: str | None = None,
) -> Event:
    """Send a payload to a hook, with a resume id or plain."""
    event = NewEvent(
        event_type="hook_received", correlation_id=hook_id, event_data={"payload": payload}
    )
    result = await world.events.create(
        run_id, event, resume_id=resume_id, resume_payload_digest=digest
    )
    return row(result)


async def create_wait(
    world: World, run_id: str = RUN, wait_id: str = "wait_1", resume_at: object = SOON
) -> Wait:
    """A waiting wait."""
    result = await send(world, run_id, "wait_created", wait_id, resumeAt=resume_at)
    assert result.wait is not None
    return result.wait


async def set_attributes(
    world: World,
    correlation_id: str,
    *changes: tuple[str, str | None],
    run_id: str = RUN,
    **more: Any,
) -> EventResult:
    """``attr_set`` as a workflow sends it."""
    return await send(
        world,
        run_id,
        "attr_set",
        correlation_id,
        changes=[{"key": key, "value": value} for key, value in changes],
        writer={"type": "workflow"},
        **more,
    )


async def all_events(world: World, run_id: str = RUN) -> list[Event]:
    """The whole log, oldest first."""
    return [plain(one) for one in await walk(partial(world.events.list, run_id), limit=1000)]


async def log_types(world: World, run_id: str = RUN) -> list[str]:
    """The event types of the log, in order."""
    return [event.event_type for event in await all_events(world, run_id)]


async def walk(read: Callable[..., Awaitable[Page[T]]], limit: int | None = None) -> list[T]:
    """Every row of a list, page by page. A page that goes on must give a new cursor."""
    rows: list[T] = []
    cursor: str | None = None
    while True:
        page = await read(limit=limit, cursor=cursor)
        rows.extend(page.data)
        if not page.has_more:
            return rows
        assert page.data
        assert page.cursor not in (None, cursor)
        cursor = page.cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that is stored about one run, in (created_at, id) order."""

    run: Run | None
    steps: Sequence[Step] = ()
    hooks: Sequence[Hook] = ()
    waits: Sequence[Wait] = ()
    events: Sequence[Event] = ()


async def state_of(world: World, run_id: str = RUN) -> State:
    """Read all of a run back; the run must not change meanwhile."""
    return State(
        run=(await world.runs.get_many([run_id]))[0],
        steps=await walk(partial(world.steps.list, run_id, sort_order="asc"), limit=1000),
        hooks=await walk(partial(world.hooks.list, run_id), limit=1000),
        waits=await walk(partial(world.waits.list, run_id), limit=1000),
        events=await all_events(world, run_id),
    )


async def race(*calls: Awaitable[T]) -> tuple[list[T], list[WorldError]]:
    """Run all at once; the answers, and the refusals. Any other error is raised."""
    won: list[T] = []
    lost: list[WorldError] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, WorldError):
            lost.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            won.append(outcome)
    return won, lost


def taking_turns(*worlds: World, count: int = CALLERS) -> list[World]:
    """``count`` callers spread over the worlds."""
    return [worlds[number % len(worlds)] for number in range(count)]


def a_run(run_id: str = RUN, **fields: Any) -> Run:
    """A run row to plant."""
    values: dict[str, Any] = {
        "status": "running",
        "deployment_id": "dpl_test",
        "workflow_name": "greet",
        "spec_version": CURRENT_SPEC_VERSION,
        "input": b"in",
        "created_at": START,
        "updated_at": START,
    }
    return Run(run_id=run_id, **{**values, **fields})


def an_event(position: int, event_type: str, run_id: str = RUN, **fields: Any) -> Event:
    """A log row to plant."""
    values: dict[str, Any] = {
        "event_id": new_id("evnt"),
        "spec_version": CURRENT_SPEC_VERSION,
        "created_at": START,
    }
    return Event(run_id=run_id, position=position, event_type=event_type, **{**values, **fields})


def planting_run(run: Run, *events: Event) -> Callable[[Facts], Decision]:
    """Decide to insert this run with this log; without events a ``run_created`` row stands."""
    rows = events or (
        an_event(
            1, "run_created", run.run_id, event_data=dict(CREATION), created_at=run.created_at
        ),
    )
    return lambda facts: Decision(
        events=rows, run=run, run_is_new=True, result=EventResult(run=run)
    )


def need(world: World, capability: str) -> None:
    """Skip the test unless the backend has the capability."""
    capabilities = world.backend.capabilities
    if not getattr(capabilities, capability):
        pytest.skip(f"backend {capabilities.name} does not claim the capability {capability!r}")
