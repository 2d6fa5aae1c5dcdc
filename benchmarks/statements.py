"""The limit of SQLite for what ours asks of it: the very statements of a workload, recorded in one
pass of ours, and executed again on a copy of the database by a loop of ``sqlite3`` alone. No rule,
no model, no event loop and no thread is in it, so nothing that stores the same can be faster.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from .plan import Sizes
from .raw import operations
from .stores import DATABASE, OwnStore
from .world_level import WORLD_LEVEL

_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")


class Recording:
    """The statements of the connection that writes, since ``begin``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[tuple[str, Any]] = []
        self._writer: sqlite3.Connection | None = None

    def begin(self, copy: Path) -> None:
        """Copy the database as it is, and start anew."""
        copy.unlink(missing_ok=True)
        with sqlite3.connect(self.path) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        source.close()
        self.statements.clear()

    def note(self, connection: sqlite3.Connection, sql: str, parameters: Any) -> None:
        if sql == "BEGIN IMMEDIATE":
            self._writer = connection
        if connection is self._writer:
            self.statements.append((sql, parameters))

    def engine(self) -> Engine:
        return create_engine(f"sqlite:///{self.path}", creator=self.connect, poolclass=NullPool)

    def connect(self) -> sqlite3.Connection:
        recording = self

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
                recording.note(self.connection, sql, parameters)
                super().execute(sql, parameters)
                return self

        class Connection(sqlite3.Connection):
            def cursor(self, factory: Any = None) -> Any:
                return super().cursor(Cursor)

        return sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, factory=Connection
        )


class RecordedStore(OwnStore):
    """Begins to record where the workload begins to measure."""

    def __init__(self, directory: Path, recording: Recording, copy: Path) -> None:
        super().__init__(directory, engine=recording.engine())
        self._recording, self._copy, self._has_step = recording, copy, False

    async def create_step(self, run_id: str, step_id: str) -> None:
        if not self._has_step:
            self._has_step = True
            self._recording.begin(self._copy)
        await super().create_step(run_id, step_id)

    async def enqueue(self, number: int) -> None:
        await super().enqueue(number)
        if number == 0:
            self._recording.begin(self._copy)

    async def serve(self, handler: Any) -> None:
        self._recording.begin(self._copy)
        await super().serve(handler)


async def run(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """The workload's operations per second, as ``sqlite3`` alone does them."""
    recording, copy = Recording(directory / DATABASE), directory / "copy.db"
    store = RecordedStore(directory, recording, copy)
    await store.open()
    try:
        await WORLD_LEVEL[workload](store, sizes)
        # What comes after the workload is not recorded.
        statements = list(recording.statements)
    finally:
        await store.close()
    return {workload: operations(workload, sizes) / _seconds(copy, statements)}


def connected(path: Path) -> sqlite3.Connection:
    """As ours opens a file to write to it."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    connection.execute("PRAGMA journal_mode=WAL")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _seconds(path: Path, statements: list[tuple[str, Any]]) -> float:
    with closing(connected(path)) as connection:
        cursor = connection.cursor()
        began = time.perf_counter()
        for sql, parameters in statements:
            cursor.execute(sql, parameters).fetchall()
        if connection.in_transaction:
            cursor.execute("COMMIT")
        return time.perf_counter() - began
