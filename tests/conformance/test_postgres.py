"""The suite on a real Postgres: emptied tables for each test, a pool for each handle.

On a server of our own it runs as a role that has the rights of ``workflow-world db grants`` and no
others, so each test proves that they are enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import postgres

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import migrate, open_backend
from workflow_world.sql.tables import tables
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.suite import *  # noqa: F403

ROLE = "runner"
EMPTY = f"TRUNCATE {', '.join(sorted(tables('').metadata.tables))}"

CHILD = """
from workflow_world.sql import open_backend

def open_handle(clock):
    return open_backend({url!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as found:
        yield found


@pytest.fixture(scope="session")
def database(server: postgres.Server) -> Iterator[str]:
    """The name of one with our tables."""
    name = server.create()
    url = server.url(name)
    migrate.upgrade(url, environ={})
    if isinstance(server, postgres.Postgres):
        server.execute(f"DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} LOGIN")
        server.execute(migrate.grants_sql(url, ROLE), name)
    yield name
    server.drop(name)


@pytest.fixture
def url(server: postgres.Server, database: str) -> str:
    server.execute(EMPTY, database)
    return server.url(database, user=ROLE if isinstance(server, postgres.Postgres) else None)


@pytest.fixture
def open_handle(url: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str) -> str:
    return CHILD.format(url=url)
