"""The floor with the one thing that durability cannot do without: a commit before the answer.

Each event and each message is the floor's own, after one row was committed by ``sqlite3`` on a
thread: no schema, no rules, no index, no lease. Events wait for the disk, messages do not. What
is left between this and a World of ours is the World; between this and the floor, the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vercel.workflow._internal import world as w

from .floor import FloorWorld
from .stores import PAYLOAD


class DurableFloorWorld(FloorWorld):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1)
        self._path = directory / "floor.db"
        self._connections: list[sqlite3.Connection] = []

    async def aclose(self) -> None:
        await super().aclose()
        self._thread.shutdown()
        for connection in self._connections:
            connection.close()

    async def events_create(self, run_id: str | None, data: w.Event) -> w.EventResult:
        await self._on_thread(lambda: self._commit("FULL"))
        return await super().events_create(run_id, data)

    async def queue(self, queue_name: str, message: w.QueuePayload, **kwargs: Any) -> str:
        await self._on_thread(lambda: self._commit("NORMAL"))
        return await super().queue(queue_name, message, **kwargs)

    async def _on_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _commit(self, synchronous: str) -> None:
        if not self._connections:
            made = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
            self._connections.append(made)
        (connection,) = self._connections
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("INSERT INTO log (payload) VALUES (?)", (PAYLOAD,))
