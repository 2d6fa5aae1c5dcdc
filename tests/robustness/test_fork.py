"""Fork with an open World: the child has connections of its own, the parent notices nothing."""

from __future__ import annotations

import asyncio
import os

import pytest
from servers.engines import ALL, Running

from workflow_world import BackendError, create_world
from workflow_world.ids import UlidFactory

from .conftest import Spawn
from .helpers import LONG

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")


@pytest.mark.parametrize("round_", range(50 if LONG else 2))
@pytest.mark.parametrize("engine", ALL)
def test_a_child_works_and_its_parent_goes_on(
    engine: str, engines: Running, spawn: Spawn, round_: int
) -> None:
    with engines(engine).database() as url:
        assert spawn(url, script="forking.py").end() == ["fine"]


def in_child(work: object) -> int:
    """The exit code of a child that calls ``work``."""
    assert callable(work)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_database_in_memory_stays_with_its_process() -> None:
    world = create_world(":memory:")
    asyncio.run(world.backend.open())

    def read() -> None:
        with pytest.raises(BackendError, match="stays with the process"):
            asyncio.run(world.backend.open())

    assert in_child(read) == 0
    asyncio.run(world.close())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_makes_other_ids() -> None:
    ids = UlidFactory()
    ids()
    before = ids._tail
    ids.forked()
    assert ids._tail != before
