"""A delivery whose lease somebody else has taken fails: the SDK does not take it for a conflict,
which it answers by replaying at once."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import closing
from typing import Any

import workflow_world
from workflow_world import World

world = workflow_world.install(recovery_interval_ms=3_600_000)

from vercel.workflow import Workflows, set_attributes, start  # noqa: E402

from .common import events_of, result_of  # noqa: E402

workflows = Workflows()
MANY = 5


@workflows.workflow
async def labelled() -> str:
    await set_attributes(phase="done")
    return "labelled"


class Dropped(logging.Handler):
    """Hears that the worker dropped the result of a delivery without a lease."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "its result is dropped" in record.getMessage():
            self.event.set()


def update_lease(changes: str) -> None:
    path = os.environ["WORKFLOW_DATABASE_URL"].removeprefix("file:")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE queue_messages SET {changes} WHERE status = 'processing'")  # noqa: S608


async def scenario(given: World) -> None:
    tries, dropped, create = 0, Dropped(), world.events.create
    logging.getLogger("workflow_world.worker").addHandler(dropped)

    async def taken_away(run_id: str, event: Any, **options: Any) -> Any:
        nonlocal tries
        if event.event_type != "attr_set" or dropped.event.is_set():
            return await create(run_id, event, **options)
        tries += 1
        if tries == 1:
            await asyncio.to_thread(update_lease, "lease_token = 'of another'")
        elif tries == MANY:
            dropped.event.set()  # it would go on for ever
        return await create(run_id, event, **options)

    world.events.create = taken_away  # type: ignore[method-assign]
    run = await start(labelled)
    await dropped.event.wait()
    assert tries == 1, "it was replayed without a lease"
    await asyncio.to_thread(update_lease, "leased_until = 0")
    assert await result_of(given, run) == "labelled"
    assert len(await events_of(given, run, "attr_set")) == 1
