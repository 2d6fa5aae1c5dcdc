"""A SQLite file against what was acknowledged of it: a map of events, chunks and messages, as
``writer.Writer`` keeps them."""

from __future__ import annotations

import sqlite3
from operator import itemgetter
from pathlib import Path
from typing import Any

from workflow_world import create_world
from workflow_world.core.fold import fold

first = itemgetter(0)


def sound(path: Path) -> bool:
    """SQLite's own checks. Returns: whether the tables are there yet."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        found = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'queue_messages'"
        ).fetchone()
    finally:
        connection.close()
    return bool(found[0])


async def check(path: Path, known: dict[str, Any], *, unknown: bool = False) -> None:
    """Sound, and everything acknowledged is there; claims and settlements may be undone.
    ``unknown``: so may be one operation more, of which nobody knows."""
    assert sound(path)
    more = await check_runs(path, known, whole=True)
    world = create_world(f"file:{path}")
    try:
        for message_id in known["messages"]:
            assert (await world.messages.get(message_id)).status in (
                "pending",
                "processing",
                "completed",
            )
        for name, count in known["chunks"].items():
            stored = (await world.streams.get_info("wrun_0", name)).tail_index + 1
            assert stored >= count
            more += stored - count
        messages = (await world.messages.list(limit=1000)).data
        # The sweep sends some more, for runs that nobody goes on with.
        more += sum(one.run_id is None for one in messages) - len(known["messages"])
        runs = {*map(first, known["events"])}
        more += len({run.run_id for run in (await world.runs.list(limit=1000)).data} - runs)
        assert {*await world.streams.list("wrun_0")} >= known["chunks"].keys()
        more += len({*await world.streams.list("wrun_0")} - known["chunks"].keys())
        assert more in (0, unknown)
    finally:
        await world.close()


async def check_runs(path: Path, known: dict[str, Any], *, whole: bool) -> int:
    """Each run is what its log says, and with ``whole`` the log begins with the acknowledged one.

    Returns: how many events there are besides.
    """
    more, world = 0, create_world(f"file:{path}")
    try:
        acknowledged: dict[str, list[str]] = {}
        for run_id, _, event_id in known["events"]:
            acknowledged.setdefault(run_id, []).append(event_id)
        for run_id, ids in acknowledged.items():
            page = await world.events.list(run_id)
            found = [event.event_id for event in page.data]
            assert found[: len(ids)] == (ids if whole else ids[: len(found)])
            more += max(0, len(found) - len(ids))
            folded = fold(page.data)
            if folded.run is not None:
                assert folded.run == await world.runs.get(run_id)
                stored = {one.step_id: one for one in (await world.steps.list(run_id)).data}
                assert stored == dict(folded.steps)
    finally:
        await world.close()
    return more
