"""The suite through PgBouncer in transaction mode, with two connections for all the handles.

``CHAOS_POOLER=all`` runs all of it, and not only claims and what they lock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from servers import pgbouncer, postgres

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import MakeWorld, OpenHandle
from workflow_world.testing.conformance.queue_claims import *  # noqa: F403
from workflow_world.testing.conformance.queue_settle import *  # noqa: F403
from workflow_world.testing.conformance.zombies import *  # noqa: F403

if os.environ.get("CHAOS_POOLER") == "all":
    from workflow_world.testing.conformance.suite import *  # noqa: F403

POOL_SIZE = 2


@pytest.fixture(scope="module")
def pooler(server: postgres.Server) -> Iterator[postgres.Server]:
    with pgbouncer.pooled(server, pool_size=POOL_SIZE) as found:
        yield found


@pytest.fixture
def database_name(server: postgres.Server, template: str) -> Iterator[str]:
    """Not ``name``, which tests of the suite call their parameters."""
    found = server.create(template)
    yield found
    server.drop(found)


@pytest.fixture
def open_handle(pooler: postgres.Server, database_name: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(
            pooler.url(database_name),
            clock=clock,
            environ={},
            shared=False,
            transaction_pooler=True,
        )

    return open_one


@pytest.mark.anyio
async def test_the_pool_is_as_small_as_it_says(
    make_world: MakeWorld, server: postgres.Server, database_name: str
) -> None:
    """Else all of this would prove less."""
    worlds = [make_world() for _ in range(3)]
    await asyncio.gather(*(world.runs.list() for world in worlds for _ in range(10)))
    ((count,),) = server.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database_name}'"  # noqa: S608
    )
    assert 1 <= count <= POOL_SIZE
