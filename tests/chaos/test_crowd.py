"""Four processes of twenty callers each on one database: no error, and every row is there once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from crowd import SHARED
from servers.engines import ALL, Running
from sqlalchemy import text

from workflow_world import create_world, mongodb
from workflow_world.check import check
from workflow_world.sql import open_database

CROWD = Path(__file__).with_name("crowd.py")
PROCESSES, CALLERS = 4, 20
SECONDS = float(os.environ.get("CHAOS_CROWD_S", "3"))


@contextlib.contextmanager
def process(url: str, name: str, callers: int, seconds: float) -> Generator[Any]:
    started = subprocess.Popen(  # our own script
        [sys.executable, CROWD, url, name, str(callers), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.anyio
@pytest.mark.timeout(300 + 10 * SECONDS)
@pytest.mark.parametrize("engine", ALL)
async def test_every_row_of_a_crowd_is_there(engines: Running, engine: str) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(engines(engine).database())
        made = finished(going(stack, url, PROCESSES, CALLERS, SECONDS))
        assert made["workflow_runs"] >= PROCESSES * CALLERS
        await all_is_there(url, made)
    print(dict(made))  # noqa: T201


def going(
    stack: contextlib.ExitStack, url: str, processes: int, callers: int, seconds: float
) -> list[Any]:
    """So many processes that all began when the last of them was ready."""
    crowd = [
        stack.enter_context(process(url, str(number), callers, seconds))
        for number in range(processes)
    ]
    for one in crowd:
        assert one.stdout.readline() == "ready\n", one.communicate()[1]
    for one in crowd:
        one.stdin.write("go\n")
        one.stdin.flush()
    return crowd


async def all_is_there(url: str, made: Counter[str]) -> None:
    """The rows that were made, no others, and nothing is wrong with them."""
    assert rows(url, made) == made
    world = create_world(url)
    try:
        tail = (await world.streams.get_info(SHARED, "out")).tail_index
        assert tail == made["workflow_runs"] - 1
        assert not (await check(world)).findings
    finally:
        await world.close()


def finished(crowd: list[Any]) -> Counter[str]:
    """Their input ends. Returns: how many rows they made of each kind."""
    made = Counter[str]()
    for one in crowd:
        one.stdin.close()
        one.stdin = None
    for one in crowd:
        out, err = one.communicate()
        assert (one.returncode, err) == (0, ""), err[-4000:]
        made.update(json.loads(out))
    return made


def rows(url: str, made: Counter[str]) -> dict[str, int]:
    if url.startswith("mongodb:"):
        backend = mongodb.open_backend(url, environ={}, shared=False)
        with contextlib.closing(backend.database):
            return {
                table: backend.database.tables[table.removeprefix("workflow_")].count_documents({})
                for table in made
            }
    engine = open_database(url, environ={}).engine
    try:
        with engine.connect() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
                for table in made
            }
    finally:
        engine.dispose()
