"""The suite on SQLite files: a copy of an empty one for each test, connections for each handle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import migrate, open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.suite import *  # noqa: F403

CHILD = """
from workflow_world.sql import open_backend

def open_handle(clock):
    return open_backend({url!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    migrate.upgrade(f"file:{path}", environ={})
    return path


@pytest.fixture
def url(empty: Path, tmp_path: Path) -> str:
    return f"file:{shutil.copyfile(empty, tmp_path / 'w.db')}"


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
