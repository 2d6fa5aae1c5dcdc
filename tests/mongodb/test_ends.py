"""Two that begin at once, a fork, and what is left of a World that nobody closes."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from servers import mongodb

from workflow_world import create_world
from workflow_world.errors import BackendError
from workflow_world.mongodb import open_backend, schema

FORKING = Path(__file__).parents[1] / "robustness" / "forking.py"


@pytest.fixture(scope="module")
def server() -> Iterator[mongodb.Server]:
    with mongodb.running() as found:
        yield found


@pytest.fixture
def url(server: mongodb.Server) -> Iterator[str]:
    with server.database() as found:
        yield found


def ours() -> set[threading.Thread]:
    gc.collect()
    return {one for one in threading.enumerate() if one.name.startswith("workflow-world")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
def test_a_child_works_and_its_parent_goes_on(url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(FORKING), url],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.stdout.split() == ["fine"], ran.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:MongoClient opened before fork")
def test_a_client_that_was_given_stays_with_its_process(url: str) -> None:
    client: MongoClient[Any] = MongoClient(url)
    backend = open_backend(url, environ={}, client=client)
    asyncio.run(backend.open())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pytest.raises(BackendError, match="stays with the process"):
                asyncio.run(backend.open())
            with pytest.raises(BackendError, match="stays with the process"):
                backend.messages.extend([], None)  # type: ignore[arg-type]
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert asyncio.run(backend.runs.get_run("wrun_1")) is None
    asyncio.run(backend.close())
    client.close()


def test_a_world_that_is_dropped_says_so_and_leaves_nothing(url: str) -> None:
    async def use() -> None:
        await create_world(url).runs.list()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(use())
        until = time.monotonic() + 20
        while ours() and time.monotonic() < until:
            time.sleep(0.01)
    assert ours() == set()
    texts = [str(one.message) for one in said if one.category is ResourceWarning]
    assert texts == ["unclosed World on mongodb"]


def test_two_that_begin_at_once_are_of_one_application(url: str) -> None:
    """The other sets the database up and writes, just after this one has found nothing."""
    first, other = (open_backend(url, environ={}, shared=False) for _ in range(2))
    tables = first.database.tables

    async def write() -> None:
        await other.chunks.append("wrun_1", "out", [b"there"])
        await other.close()

    class Slow:
        def __getitem__(self, name: str) -> Any:
            return tables[name]

        def list_collection_names(self) -> list[str]:
            asyncio.run(write())
            return tables.list_collection_names()

    database = first.database
    schema.create(Slow(), database.journal, database.clock.now())  # type: ignore[arg-type]
    asyncio.run(first.close())
