"""Real servers: one for each worker of the test run, emptied for each test, and some of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import pytest
from hrana.proxy import Proxy
from postgres.helpers import Child
from servers.sqld import Signer, Sqld, empty_tables

from workflow_world import World, create_world
from workflow_world.sql import migrate

MakeWorld: TypeAlias = Callable[..., World]
Spawn: TypeAlias = Callable[..., Child]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WORKFLOW_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test closes what it opened, and closing ends every thread of ours."""
    before = set(threading.enumerate())
    yield
    left = {thread for thread in threading.enumerate() if thread.name.startswith("workflow-world")}
    assert left - before == set()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    with Sqld(tmp_path_factory.mktemp("sqld")) as found:
        migrate.upgrade(found.url, environ={})
        yield found


@pytest.fixture
def url(server: Sqld) -> str:
    empty_tables(server.url)
    return server.url


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    """An empty one, which the test may stop."""
    with Sqld(tmp_path_factory.mktemp("sqld")) as found:
        yield found


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Iterator[Sqld]:
    """One that wants a token of the signer's."""
    with Sqld(tmp_path_factory.mktemp("sqld"), key=signer.key) as found:
        migrate.upgrade(found.url, auth_token=signer.token(), environ={})
        yield found


@pytest.fixture
def proxy(server: Sqld) -> Iterator[Proxy]:
    """In front of the server; passes everything until it is told otherwise."""
    proxy = Proxy(server.host)
    yield proxy
    proxy.close()


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
async def far(make_world: MakeWorld, url: str, proxy: Proxy) -> World:
    """An open World behind the proxy."""
    world = make_world(proxy.url)
    await world.backend.open()
    proxy.bodies.clear()
    return world


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
