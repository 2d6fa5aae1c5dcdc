"""The same random operations on SQLite and on each other engine: every answer is the same."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from model.sides import HANDLES, Side, opener
from servers.engines import ALL, Running

from workflow_world.errors import WorldError
from workflow_world.testing import ManualClock

from .operations import Operations

COUNT = int(os.environ.get("CHAOS_OPERATIONS", "600"))
COST = {"libsql": 4, "libsql-replica": 4, "mongodb": 2}
OTHERS = [*(name for name in ALL if name != "sqlite"), "libsql-replica"]

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300 + COUNT // 5)]


@contextlib.asynccontextmanager
async def side_on(
    engines: Running, name: str, clock: ManualClock, folder: Path
) -> AsyncIterator[Side]:
    engine, _, follows = name.partition("-")
    with engines(engine).database() as url:
        side = Side(name, opener(url, clock, folder if follows else None), clock)
        try:
            yield side
        finally:
            await side.close()


@pytest.mark.parametrize("name", OTHERS)
async def test_every_answer_is_that_of_sqlite(
    engines: Running, name: str, seed: int, tmp_path: Path
) -> None:
    if name == "libsql-replica" and find_spec("libsql_experimental") is None:
        pytest.skip("the stock driver has no wheel here")
    clock, handles = ManualClock(), random.Random(seed)  # noqa: S311
    operations, answered = Operations(seed, clock), Counter[str]()
    async with (
        side_on(engines, "sqlite", clock, tmp_path) as sqlite,
        side_on(engines, name, clock, tmp_path) as other,
    ):
        for number in range(COUNT // COST.get(name, 1)):
            said, ask = operations.next()
            handle = handles.randrange(HANDLES)
            expected, found = await sqlite.ask(handle, ask), await other.ask(handle, ask)
            assert other.comparable(found) == sqlite.comparable(expected), (
                f"seed {seed}, operation {number}: {said}\n"
                f"{name}: {other.comparable(found)}\nsqlite: {sqlite.comparable(expected)}"
            )
            answered[
                "refused" if isinstance(found, WorldError) else said.split()[0].partition("_")[0]
            ] += 1
    print(dict(answered))  # noqa: T201
