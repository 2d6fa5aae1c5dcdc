"""The suite on SQLite files: a copy of an empty one for each test, connections for each handle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.engines import Running

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.suite import *  # noqa: F403

CHILD = """
from workflow_world.sql import open_backend

def open_handle(clock):
    return open_backend({url!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture
def url(engines: Running) -> Iterator[str]:
    with engines("sqlite").database() as found:
        yield found


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
