"""The suite on SQLite files: every handle has connections of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

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
def url(tmp_path: Path) -> str:
    return f"file:{tmp_path / 'w.db'}"


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
