"""pgqueuer on Postgres, its defaults, on asyncpg: drain and idle pick-up in one process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
from pgqueuer import AsyncpgDriver, PgQueuer, Queries

from .plan import Sizes
from .stores import database_url
from .world_level import median_of_pauses

_TIMEOUT_S = 120.0


async def run(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Messages per second, or milliseconds from the call of ``enqueue`` to the handler."""
    url = database_url(directory)
    sender, receiver = await asyncpg.connect(url), await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(sender))
    await queries.install()
    try:
        if workload == "drain":
            return {"drain": await _drain(queries, receiver, sizes.drained)}
        return {"pick_up": 1_000 * await _pick_up(queries, receiver, sizes.pick_ups)}
    finally:
        await sender.close()
        await receiver.close()


@contextlib.asynccontextmanager
async def _serving(
    connection: asyncpg.Connection, handler: Callable[[], None]
) -> AsyncIterator[None]:
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("noop")
    async def noop(job: object) -> None:
        handler()

    running = asyncio.create_task(queuer.run())
    try:
        yield
    finally:
        queuer.shutdown.set()
        await running


async def _drain(queries: Queries, connection: asyncpg.Connection, count: int) -> float:
    await queries.enqueue(["noop"] * count, [b"x"] * count, [0] * count)
    seen, done = 0, asyncio.Event()

    def handler() -> None:
        nonlocal seen
        seen += 1
        if seen >= count:
            done.set()

    began = time.perf_counter()
    async with _serving(connection, handler):
        await asyncio.wait_for(done.wait(), _TIMEOUT_S)
        return count / (time.perf_counter() - began)


async def _pick_up(queries: Queries, connection: asyncpg.Connection, count: int) -> float:
    arrived, at = asyncio.Event(), 0.0

    def handler() -> None:
        nonlocal at
        at = time.perf_counter()
        arrived.set()

    async def once(number: int) -> float:
        arrived.clear()
        began = time.perf_counter()
        await queries.enqueue("noop", b"%d" % number)
        await asyncio.wait_for(arrived.wait(), _TIMEOUT_S)
        return at - began

    async with _serving(connection, handler):
        await once(0)
        return await median_of_pauses(once, count)
