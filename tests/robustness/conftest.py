"""The same test on a SQLite file and on servers, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from servers import postgres
from servers.engines import ENGINES
from servers.sqld import Sqld, empty_tables

from workflow_world import World, create_world
from workflow_world.sql import migrate

from .helpers import Process

MakeWorld: TypeAlias = Callable[..., World]
Spawn: TypeAlias = Callable[..., Process]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WORKFLOW_", "PG")) and not name.startswith("WORKFLOW_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {thread for thread in threading.enumerate() if thread.name.startswith("workflow-world")}
    assert left - before == set()


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as found:
        yield found


@pytest.fixture(scope="session")
def template(server: postgres.Server) -> Iterator[str]:
    name = server.create()
    migrate.upgrade(server.url(name), environ={})
    yield name
    server.drop(name)


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("template") / "w.db"
    migrate.upgrade(f"file:{path}", environ={})
    return path.read_bytes()


@pytest.fixture
def sqlite_url(tmp_path: Path, empty_file: bytes) -> str:
    path = tmp_path / "w.db"
    path.write_bytes(empty_file)
    return f"file:{path}"


@pytest.fixture
def postgres_url(server: postgres.Server, template: str) -> Iterator[str]:
    name = server.create(template)
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def sqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    with Sqld(tmp_path_factory.mktemp("sqld")) as found:
        migrate.upgrade(found.url, environ={})
        yield found


@pytest.fixture
def libsql_url(sqld: Sqld) -> str:
    empty_tables(sqld.url)
    return sqld.url


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest) -> str:
    """A database with our tables on each engine in turn."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """``make_world(url, **options)``: worlds that are closed at the end."""
    worlds: list[World] = []

    def make(at: str, **options: Any) -> World:
        worlds.append(create_world(at, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """``spawn(command, …)``: processes that do not outlive the test."""
    processes: list[Process] = []

    def start(*arguments: str, **options: Any) -> Process:
        processes.append(Process(*arguments, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
