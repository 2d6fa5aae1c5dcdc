"""The floor with the one thing that durability cannot do without: a commit before the answer.

Each event and each message is the floor's own, after one row was committed by the bare driver on a
thread: no schema, no rules, no index, no lease. On a file, messages do not wait for the disk. What
is left between this and a World of ours is the World; between this and the floor, the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vercel.workflow._internal import world as w

from .floor import FloorWorld
from .stores import PAYLOAD

CONNECTIONS = 10
"""To a server; a file has one writer."""


class DurableFloorWorld(FloorWorld):
    """``commit`` is called on a thread of so many, with whether it is for an event."""

    def __init__(
        self, commit: Callable[[bool], None], close: Callable[[], None], threads: int
    ) -> None:
        super().__init__()
        self._commit, self._close = commit, close
        self._threads = ThreadPoolExecutor(threads)

    async def aclose(self) -> None:
        await super().aclose()
        self._threads.shutdown()
        self._close()

    async def events_create(self, run_id: str | None, data: w.Event) -> w.EventResult:
        await self._committed(True)
        return await super().events_create(run_id, data)

    async def queue(self, queue_name: str, message: w.QueuePayload, **kwargs: Any) -> str:
        await self._committed(False)
        return await super().queue(queue_name, message, **kwargs)

    async def _committed(self, is_event: bool) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._commit, is_event)


def on_a_file(directory: Path) -> DurableFloorWorld:
    connection = sqlite3.connect(
        directory / "floor.db", isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")

    def commit(is_event: bool) -> None:
        connection.execute(f"PRAGMA synchronous={'FULL' if is_event else 'NORMAL'}")
        connection.execute("INSERT INTO log (payload) VALUES (?)", (PAYLOAD,))

    return DurableFloorWorld(commit, connection.close, threads=1)


def on_postgres(url: str) -> DurableFloorWorld:
    import psycopg

    free: SimpleQueue[psycopg.Connection] = SimpleQueue()
    opened = [psycopg.connect(url, autocommit=True) for _ in range(CONNECTIONS)]
    opened[0].execute(
        "CREATE TABLE log (position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " payload BYTEA NOT NULL)"
    )
    for connection in opened:
        free.put(connection)

    def commit(is_event: bool) -> None:
        connection = free.get()
        try:
            connection.execute("INSERT INTO log (payload) VALUES (%s)", (PAYLOAD,))
        finally:
            free.put(connection)

    def close() -> None:
        for connection in opened:
            connection.close()

    return DurableFloorWorld(commit, close, threads=CONNECTIONS)
