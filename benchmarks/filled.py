"""Databases that hold much else: built once per command, copied for each measurement.

The first row of each kind is written by the World itself; the others are copies of it with ids
and times of their own, so that they look as the World's rows do, whatever those look like.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, insert, select

from .plan import Sizes
from .stores import DATABASE, own_store
from .world_level import run_id, step

_STEPS = 3
_FIRST = 10**15
"""The numbers in the ids of these rows begin here: the workloads' own are smaller."""
_BATCH = 20_000
_FAST = ("PRAGMA synchronous=OFF", "PRAGMA journal_mode=MEMORY", "PRAGMA cache_size=-200000")
_TIMES = (
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "available_at",
    "claimed_at",
    "processed_at",
)

Row = dict[str, Any]


class Filled:
    """The prepared databases of one command, in a directory that it cleans up."""

    def __init__(self, directory: Path, sizes: Sizes) -> None:
        self._directory, self._sizes = directory, sizes

    def path(self, contender: str) -> Path | None:
        """The contender's database, built when first asked for; None: it begins empty."""
        if contender not in _FILLS:
            return None
        home = self._directory / contender
        if not home.exists():
            home.mkdir()
            _FILLS[contender](home, self._sizes)
        return home / DATABASE


def copy_into(directory: Path, prepared: Path) -> None:
    """On disk when this returns, so that no measurement waits for the copy to be written."""
    copy = directory / DATABASE
    shutil.copyfile(prepared, copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def _with_runs(home: Path, sizes: Sizes) -> None:
    from workflow_world.sql.tables import tables

    asyncio.run(_one_run(home))
    t = tables()
    with _filling(home) as connection:
        for table in (t.runs, t.steps, t.events):
            _multiply(connection, table, sizes.other_runs)


def _with_messages(home: Path, sizes: Sizes) -> None:
    from workflow_world.sql.tables import tables

    asyncio.run(_one_message(home))
    with _filling(home) as connection:
        _multiply(connection, tables().messages, sizes.other_messages)


_FILLS: dict[str, Callable[[Path, Sizes], None]] = {
    "ours-10k-runs": _with_runs,
    "ours-1m-messages": _with_messages,
}


async def _one_run(home: Path) -> None:
    store, run = own_store(home), run_id(_FIRST)
    await store.open()
    try:
        await store.start_run(run)
        for number in range(_STEPS):
            await step(store, run, f"step_other_{number}")
        await store.complete_run(run)
    finally:
        await store.close()


async def _one_message(home: Path) -> None:
    store, delivered = own_store(home), asyncio.Event()
    await store.open()
    try:
        await store.enqueue(_FIRST)
        await store.serve(delivered.set)
        await asyncio.wait_for(delivered.wait(), 60)
    finally:
        await store.close()  # settles what was delivered


@contextmanager
def _filling(home: Path) -> Iterator[Connection]:
    """One transaction without a journal and without a flush; afterwards all is in one file."""
    engine = create_engine(f"sqlite:///{home / DATABASE}", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for pragma in _FAST:
                connection.exec_driver_sql(pragma)
            connection.exec_driver_sql("BEGIN")
            yield connection
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    finally:
        engine.dispose()


def _multiply(connection: Connection, table: Table, count: int) -> None:
    """``count`` times the rows that are there, these included."""
    found = [dict(row) for row in connection.execute(select(table)).mappings()]
    assert found, f"{table.name} has no row to copy"
    rows = (_copy(row, number, count) for number in range(1, count) for row in found)
    while batch := list(islice(rows, _BATCH)):
        connection.execute(insert(table), batch)


def _copy(row: Row, number: int, count: int) -> Row:
    """Ids of its own, and each a millisecond after the one before it, all in the past."""
    copy, earlier = row.copy(), count - number
    for name in _TIMES:
        if copy.get(name) is not None:
            copy[name] -= earlier
    for name in ("step_id", "correlation_id"):
        if copy.get(name) is not None:
            copy[name] = f"{copy[name]}_{number}"
    if "message_id" in copy:
        copy["message_id"] = f"msg_{number:026d}"
    copy["run_id"] = run_id(_FIRST + number)
    return copy
