"""The limit of the disk: one row per transaction, sqlite3 alone, WAL and synchronous=FULL."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from .plan import Sizes
from .stores import PAYLOAD


def operations(workload: str, sizes: Sizes) -> int:
    """How many a workload has, each a commit here."""
    return {
        "step_events_1": 3 * sizes.steps_alone,
        "step_events_50": 3 * sizes.callers * sizes.steps_each,
        "enqueue_50": sizes.callers * sizes.messages_each,
    }[workload]


def run(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Commits per second of one caller, as many as the workload has operations (at most 3,000)."""
    count = min(operations(workload, sizes), 3_000)
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    began = time.perf_counter()
    for position in range(count):
        connection.execute("INSERT INTO log VALUES (?, ?)", (position, PAYLOAD))
    seconds = time.perf_counter() - began
    connection.close()
    return {workload: count / seconds}
