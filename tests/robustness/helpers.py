"""What these tests share: their length, events, and processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from servers.children import ChildProcess
from sqlalchemy import Connection

from workflow_world import World
from workflow_world.sql import open_database

LONG: Final = bool(os.environ.get("CHAOS_LONG"))
"""Set by ``nox -s chaos``: everything below takes its long form."""

PATIENCE_S: Final = 1800 if LONG else int(os.environ.get("CHAOS_PATIENCE_S", "200"))
"""How long a test waits for what must happen. Only a failing test waits so long."""

not_on_libsql = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
"""What a libSQL server does not count, what has a test of its own there, and what takes long."""

FLOWS, STEPS = "__wkf_workflow_", "__wkf_step_"
FLOW, STEP = FLOWS + "w", STEPS + "s"


def engine_of(url: str) -> str:
    """One of ``servers.engines.ENGINES``."""
    return {"file": "sqlite", "postgresql": "postgres", "libsql": "libsql"}[url.partition(":")[0]]


def event(kind: str, key: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": key, "eventData": data or None}


@contextmanager
def sql_on(url: str) -> Generator[Connection]:
    """One transaction on the database, beside any World."""
    engine = open_database(url, environ={}).engine
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


async def create_run(world: World, run_id: str) -> None:
    await world.events.create(
        run_id, event("run_created", deploymentId="d", workflowName="w", input=b"")
    )


async def until(holds: Callable[[], Awaitable[Any]], what: object = "it never happened") -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110  # another process or loop makes it so
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


class Process(ChildProcess):
    """A process that runs a command of a script beside this file, ``child.py`` by default."""

    def __init__(
        self, *arguments: str, script: str = "child.py", env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(Path(__file__).with_name(script), *arguments, env=env)

    @property
    def pid(self) -> int:
        return self.process.pid

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self, *, code: int = 0) -> list[str]:
        """Wait for its end. Returns: the rest of what it printed."""
        return self.finish(timeout=PATIENCE_S, code=code)[0].splitlines()


async def all_ready(processes: list[Process]) -> None:
    """Wait until each has said that it is, then let them all go."""
    for process in processes:
        assert await asyncio.to_thread(process.line) == "ready"
    for process in processes:
        process.go()


async def ends_of(processes: list[Process]) -> list[list[str]]:
    return list(await asyncio.gather(*(asyncio.to_thread(one.end) for one in processes)))
