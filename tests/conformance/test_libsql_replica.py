"""The suite on embedded replicas of a real libSQL server: each handle has a file of its own.

Only what is read goes to the replica, so a selection is run of what reads; the whole suite where
``WORKFLOW_TEST_LIBSQL`` is ``all``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
from servers.engines import Running

from workflow_world.backend import Backend
from workflow_world.clock import Clock
from workflow_world.sql import open_backend
from workflow_world.testing.conformance.fixtures import *  # noqa: F403
from workflow_world.testing.conformance.fixtures import OpenHandle
from workflow_world.testing.conformance.paging import *  # noqa: F403
from workflow_world.testing.conformance.reads import *  # noqa: F403
from workflow_world.testing.conformance.resolve_data import *  # noqa: F403
from workflow_world.testing.conformance.streams import *  # noqa: F403

if os.environ.get("WORKFLOW_TEST_LIBSQL") == "all":
    from workflow_world.testing.conformance.suite import *  # noqa: F403

if find_spec("libsql_experimental") is None:
    pytest.skip("the stock driver has no wheel here", allow_module_level=True)

CHILD = """
from itertools import count
from os import getpid
from workflow_world.sql import open_backend

numbers = count()

def open_handle(clock):
    path = f"file:{folder}/{{getpid()}}-{{next(numbers)}}.db"
    return open_backend(path, sync_url={url!r}, clock=clock, environ={{}}, shared=False)
"""


@pytest.fixture
def url(engines: Running) -> Iterator[str]:
    """Of a new server: a replica fetches all that was ever written to an old one."""
    with engines("libsql").database() as found:
        yield found


@pytest.fixture
def open_handle(url: str, tmp_path: Path) -> OpenHandle:
    numbers = count()

    def open_one(clock: Clock) -> Backend:
        path = f"file:{tmp_path / f'{next(numbers)}.db'}"
        return open_backend(path, sync_url=url, clock=clock, environ={}, shared=False)

    return open_one


@pytest.fixture
def child_source(url: str, tmp_path: Path) -> str:
    return CHILD.format(url=url, folder=tmp_path)
