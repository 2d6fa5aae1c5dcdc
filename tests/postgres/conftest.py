"""A database of its own for each test, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
from servers import postgres

from workflow_world import World, create_world
from workflow_world.sql import SqlBackend, migrate, open_backend
from workflow_world.sql.database import Database

from .helpers import Child
from .proxy import Proxy

MakeWorld: TypeAlias = Callable[..., World]
Spawn: TypeAlias = Callable[..., Child]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WORKFLOW_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test closes what it opened, and closing ends every thread of ours."""
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


@pytest.fixture
def empty(server: postgres.Server) -> Iterator[str]:
    """The name of a database without tables."""
    name = server.create()
    yield name
    server.drop(name)


@pytest.fixture
def name(server: postgres.Server, template: str) -> Iterator[str]:
    """The name of a database with our tables."""
    found = server.create(template)
    yield found
    server.drop(found)


@pytest.fixture
def url(server: postgres.Server, name: str) -> str:
    return server.url(name)


@pytest.fixture
def proxy(server: postgres.Server) -> Iterator[Proxy]:
    with Proxy(urlsplit(server.url()).port or 5432) as found:
        yield found


@pytest.fixture
def far_url(url: str, proxy: Proxy) -> str:
    """The same database behind the proxy."""
    parts = urlsplit(url)
    netloc = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
    return parts._replace(netloc=netloc).geturl()


@pytest.fixture
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """``make_world(url, **options)``: worlds that are closed at the end."""
    worlds: list[World] = []

    def make(at: str | None = None, **options: Any) -> World:
        worlds.append(create_world(at or request.getfixturevalue("url"), **options))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """An open World."""
    world = make_world()
    await world.backend.open()
    return world


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    backend: SqlBackend = open_backend(url, environ={}, shared=False)
    await backend.open()
    yield backend.database
    await backend.close()


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
