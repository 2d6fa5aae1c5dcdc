"""What a started worker costs while there is nothing to do."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .plan import Sizes
from .stores import opened

_NO_QUERY = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")


async def run(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """CPU of all threads in percent of a core, and what goes to SQLite per second.

    Queries are statements on tables. The rest, such as ``PRAGMA data_version``, which reads a
    counter in shared memory, is counted only in ``idle_statements``.
    """
    statements = list[str]()
    with _traced(statements):
        async with opened(contender, directory) as store:
            await store.serve(lambda: None)
            await asyncio.sleep(sizes.idle_s / 4)  # what a worker does once, at its start
            statements.clear()
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(sizes.idle_s)
            used, seconds = time.process_time() - cpu, time.perf_counter() - began
            seen = [*statements]
    queries = [one for one in seen if not one.lstrip().upper().startswith(_NO_QUERY)]
    return {
        "idle_cpu": 100 * used / seconds,
        "idle_queries": len(queries) / seconds,
        "idle_statements": len(seen) / seconds,
    }


@contextmanager
def _traced(statements: list[str]) -> Iterator[None]:
    """Every statement of every connection that this process opens meanwhile."""
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(statements.append)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = connect
