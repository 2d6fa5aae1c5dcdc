"""The limit of the disk: one row per transaction, sqlite3 alone, WAL and synchronous=FULL."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from .plan import Sizes
from .stores import PAYLOAD
from .world_level import median_of_pauses


def operations(workload: str, sizes: Sizes) -> int:
    """How many a workload has."""
    return {
        "step_events_1": 3 * sizes.steps_alone,
        "step_events_50": 3 * sizes.callers * sizes.steps_each,
        "enqueue_50": sizes.callers * sizes.messages_each,
        "drain": max(1, sizes.drained // sizes.callers) * sizes.callers,
    }[workload]


def run(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Commits per second of one caller, as many as the workload has operations (at most 3,000); of
    ``pick_up`` the milliseconds of one commit after a pause, which is all that happens here."""
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")

    def commit(position: int) -> float:
        began = time.perf_counter()
        connection.execute("INSERT INTO log VALUES (?, ?)", (position, PAYLOAD))
        return time.perf_counter() - began

    async def after_a_pause(number: int) -> float:
        return commit(number)

    try:
        if workload == "pick_up":
            return {workload: 1_000 * asyncio.run(median_of_pauses(after_a_pause, sizes.pick_ups))}
        count = min(operations(workload, sizes), 3_000)
        return {workload: count / sum(map(commit, range(count)))}
    finally:
        connection.close()
