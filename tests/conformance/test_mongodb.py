"""The suite on a MongoDB-protocol server: a database for each test, a client for each handle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import mongodb

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.mongodb import open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.suite import *  # noqa: F403

CHILD = """
from workflow_world.mongodb import open_backend

def open_handle(clock):
    return open_backend({url!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture(scope="session")
def server() -> Iterator[mongodb.Server]:
    with mongodb.running() as found:
        yield found


@pytest.fixture
def url(server: mongodb.Server) -> Iterator[str]:
    with server.database() as found:
        yield found


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
