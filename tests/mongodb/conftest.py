"""Real servers: one for each worker of the test run, and a database of its own for each test."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import pytest
from postgres.proxy import Proxy
from servers import mongodb
from servers.processes import free_port

from workflow_world import World, create_world

from .helpers import Child, Stored, port_of, through

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
    before = set(threading.enumerate())
    yield
    left = {thread for thread in threading.enumerate() if thread.name.startswith("workflow-world")}
    assert left - before == set()


@pytest.fixture(scope="session")
def server() -> Iterator[mongodb.Server]:
    with mongodb.running() as found:
        yield found


@pytest.fixture(scope="session")
def streaming() -> Iterator[mongodb.Server]:
    """One with change streams."""
    with mongodb.running(streams=True) as found:
        yield found


@pytest.fixture
def url(server: mongodb.Server) -> Iterator[str]:
    with server.database() as found:
        yield found


@pytest.fixture
def stored(server: mongodb.Server, url: str) -> Stored:
    """The test's database, behind the package's back."""
    return Stored(server, url)


@pytest.fixture
def proxy(server_port: int) -> Iterator[Proxy]:
    """In front of the server; passes everything until it is told otherwise."""
    with Proxy(server_port, commit=b"nothing yet") as found:
        yield found


@pytest.fixture
def server_port(server: mongodb.Server) -> int:
    return port_of(server.address)


@pytest.fixture
def nowhere() -> int:
    """A port on which nobody listens."""
    return free_port()


@pytest.fixture
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """``make_world(url, **options)``: worlds that are closed at the end."""
    worlds: list[World] = []

    def make(at: str | None = None, **options: Any) -> World:
        options.setdefault("shared", False)
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
async def far(url: str, proxy: Proxy, server_port: int) -> AsyncIterator[World]:
    """An open World behind the proxy."""
    world = create_world(through(proxy, url), shared=False)
    await world.backend.open()
    yield world
    proxy.turn_to(server_port)
    await world.close()


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
