"""The suite on the memory backend: one database per test, one backend per handle."""

from __future__ import annotations

import pytest

from workflow_world.clock import Clock
from workflow_world.memory import MemoryBackend, MemoryDatabase
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.suite import *  # noqa: F403


@pytest.fixture
def open_handle() -> OpenHandle:
    database = MemoryDatabase()

    def open_one(clock: Clock) -> MemoryBackend:
        return MemoryBackend(database, clock=clock)

    return open_one
