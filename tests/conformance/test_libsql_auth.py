"""The suite on a real libSQL server that asks each request for a token (JWT).

Tokens travel with every request alike, so a selection is run that has all kinds of them; the
whole suite where ``WORKFLOW_TEST_LIBSQL`` is ``all``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from servers.sqld import Signer, Sqld, empty_tables

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import migrate, open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.queue_claims import *  # noqa: F403
from workflow_world.testing.conformance.streams import *  # noqa: F403

if os.environ.get("WORKFLOW_TEST_LIBSQL") == "all":
    from workflow_world.testing.conformance.suite import *  # noqa: F403

CHILD = """
from workflow_world.sql import open_backend

def open_handle(clock):
    return open_backend({url!r}, auth_token={token!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def auth_token(signer: Signer) -> str:
    return signer.token()


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, signer: Signer, auth_token: str
) -> Iterator[Sqld]:
    with Sqld(tmp_path_factory.mktemp("sqld"), key=signer.key) as found:
        migrate.upgrade(found.url, auth_token=auth_token, environ={})
        yield found


@pytest.fixture
def url(server: Sqld, auth_token: str) -> str:
    empty_tables(server.url, auth_token)
    return server.url


@pytest.fixture
def open_handle(url: str, auth_token: str) -> OpenHandle:
    def open_one(clock: Clock) -> Backend:
        return open_backend(url, auth_token=auth_token, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str, auth_token: str) -> str:
    return CHILD.format(url=url, token=auth_token)
