"""Real files, counted statements, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from workflow_world import World, create_world
from workflow_world.sql import SqlBackend, migrate, open_backend
from workflow_world.sql.database import Database

from .helpers import Child, Trace

MakeWorld: TypeAlias = Callable[..., World]
Spawn: TypeAlias = Callable[..., Child]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WORKFLOW_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test closes what it opened, and closing ends every thread of ours."""
    _others.update(all_of_ours())
    yield
    left = ours()
    assert left == set()


_others: set[threading.Thread] = set()
"""What earlier tests left behind: their failure, not that of the next ones."""


def all_of_ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("workflow-world")}


def ours() -> set[threading.Thread]:
    """The threads that this test's Worlds have running."""
    return all_of_ours() - _others


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is going to be; nothing is there yet."""
    return tmp_path / "w.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"file:{path}"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A new database at the newest revision, for tests that need many."""
    path = tmp_path_factory.mktemp("template") / "w.db"
    migrate.upgrade(f"file:{path}", environ={})
    return path.read_bytes()


@pytest.fixture
async def make_world(url: str) -> AsyncIterator[MakeWorld]:
    """``make_world(url, **options)``: worlds that are closed at the end."""
    worlds: list[World] = []

    def make(at: str = url, **options: Any) -> World:
        worlds.append(create_world(at, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """An open World on the database file."""
    world = make_world()
    await world.backend.open()
    return world


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """An open database, without a World around it."""
    backend: SqlBackend = open_backend(url, environ={}, shared=False)
    await backend.open()
    yield backend.database
    await backend.close()


@pytest.fixture
def trace() -> Iterator[Trace]:
    """Ask for it before the World: it sees the connections that are made from now on."""
    found = Trace()

    def connected(connection: Any, _record: object) -> None:
        found.watch(connection)

    event.listen(Pool, "connect", connected)
    yield found
    event.remove(Pool, "connect", connected)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """``spawn(command, …)``: processes that do not outlive the test."""
    children: list[Child] = []

    def start(*arguments: str) -> Child:
        children.append(Child(*arguments))
        return children[-1]

    yield start
    for child in children:
        child.kill()
