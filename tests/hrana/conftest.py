"""One real server for each worker of the test run; connections that are closed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from servers.sqld import Sqld

from workflow_world import hrana

from .proxy import Proxy

Connect: TypeAlias = Callable[..., hrana.Connection]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WORKFLOW_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def sqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    with Sqld(tmp_path_factory.mktemp("sqld")) as server:
        yield server


@pytest.fixture
def own_sqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    """An empty one, which the test may stop."""
    with Sqld(tmp_path_factory.mktemp("sqld")) as server:
        yield server


@pytest.fixture
def proxy(sqld: Sqld) -> Iterator[Proxy]:
    """In front of the server; passes everything until it is told otherwise."""
    proxy = Proxy(sqld.host)
    yield proxy
    proxy.close()


@pytest.fixture
def connect(sqld: Sqld) -> Iterator[Connect]:
    """``connect(url, **options)``: the server's by default."""
    made: list[hrana.Connection] = []

    def one(url: str = sqld.url, **options: Any) -> hrana.Connection:
        made.append(hrana.connect(url, **options))
        return made[-1]

    yield one
    for connection in made:
        connection.close()


@pytest.fixture
def db(connect: Connect) -> hrana.Connection:
    return connect()


@pytest.fixture
def table(connect: Connect) -> str:
    """The name of a new table ``(id INTEGER PRIMARY KEY, v UNIQUE)`` of this test alone."""
    name = f"t{uuid4().hex}"
    connect().execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v UNIQUE)")
    return name
