"""The suite on a MongoDB-protocol server: a database for each test, a client for each handle."""

from __future__ import annotations

from collections.abc import Iterator
import os, itertools

import pytest
from pymongo import MongoClient

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
_n = itertools.count()

@pytest.fixture(scope="session")
def cl():
    with MongoClient("mongodb://127.0.0.1:27098/?directConnection=true") as c:
        yield c

@pytest.fixture
def url(cl) -> Iterator[str]:
    name = f"t{os.getpid()}_{next(_n)}"
    yield f"mongodb://127.0.0.1:27098/{name}?directConnection=true"
    cl.drop_database(name)


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
