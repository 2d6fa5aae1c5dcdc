"""Fixtures of the suite; a backend brings only ``open_handle``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from ...backend import Backend, Facts, Intent
from ...clock import SYSTEM_CLOCK, Clock
from ...core.decision import Decision, Needs
from ...core.entities import EventResult
from ...settings import resolve
from ...world import World
from ..clock import ManualClock

OpenHandle: TypeAlias = Callable[[Clock], Backend]
MakeWorld: TypeAlias = Callable[..., World]
Plant: TypeAlias = Callable[[str, Callable[[Facts], Decision]], Awaitable[EventResult]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def child_source() -> str | None:
    """Python source that defines ``open_handle(clock)`` on the test's database, for a child
    process; None: the backend has no such thing. A backend overrides this to be tested by kill."""
    return None


@pytest.fixture
async def make_world(open_handle: OpenHandle, clock: ManualClock) -> AsyncIterator[MakeWorld]:
    """``make_world(**settings)``: one more World, on a handle of its own; closed at the end.

    ``clock=`` takes another clock; ``real_time=True`` the system's. ``wrap=`` puts a backend of
    the test's own in front of the handle.
    """
    worlds: list[World] = []

    def make(
        *,
        clock: Clock = clock,
        real_time: bool = False,
        wrap: Callable[[Backend], Backend] | None = None,
        **options: Any,
    ) -> World:
        chosen = SYSTEM_CLOCK if real_time else clock
        settings, unknown = resolve(options, {})
        assert not unknown, unknown
        backend = open_handle(chosen) if wrap is None else wrap(open_handle(chosen))
        worlds.append(World(backend, settings, clock=chosen))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A World on the manual clock, not started."""
    return make_world()


@pytest.fixture
def rival(make_world: MakeWorld, world: World) -> World:
    """A second World on the same database, with a handle of its own."""
    return make_world()


@pytest.fixture
def plant(world: World) -> Plant:
    """Write rows that no caller may write, through the seam: ``await plant(run_id, decide)``.

    ``decide`` gets the facts and returns the ``Decision`` to apply.
    """

    async def write(run_id: str, decide: Callable[[Facts], Decision]) -> EventResult:
        await world.backend.open()
        intent = Intent(
            run_id=run_id, needs=Needs(payloads=True), decide=lambda facts, now: decide(facts)
        )
        return await world.backend.runs.write(intent)

    return write
