"""Which commits wait for the disk: all but those that a repeated delivery would make again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from workflow_world import World, create_world
from workflow_world.sql.backend import SqlBackend
from workflow_world.sql.database import Database
from workflow_world.sql.sqlite.database import SqliteDatabase
from workflow_world.testing.conformance.queue_helpers import Recorder, message_in

from .helpers import QUEUE, create_run, step_event

pytestmark = pytest.mark.anyio

Send = Callable[[World], Awaitable[object]]


def database_of(world: World) -> Database:
    assert isinstance(world.backend, SqlBackend)
    return world.backend.database


class Commits:
    """The transactions that changed something, in order: flushed or not."""

    def __init__(self, world: World) -> None:
        database = database_of(world)
        assert isinstance(database, SqliteDatabase)
        writer = database.writer
        commit = writer._commit
        self.flushed: list[bool] = []

        def watched(cursor: object, take: object) -> None:
            before = writer.commits
            commit(cursor, take)
            if writer.commits != before:
                self.flushed.append(writer._flushes)

        writer._commit = watched  # type: ignore[method-assign]  # nowhere else can it be seen


async def delivered(world: World, send: Send) -> list[bool]:
    """How the commits of ``send`` were made, called by a handler; without the delivery's own."""
    commits, done, told = Commits(world), asyncio.Event(), list[bool]()

    async def handler(message: object, **about: object) -> None:
        before = len(commits.flushed)
        await send(world)
        told.extend(commits.flushed[before:])
        done.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    await world.queue(QUEUE, {"n": 0})
    await asyncio.wait_for(done.wait(), 20)
    return told


async def test_what_a_handler_enqueues_is_not_flushed(world: World) -> None:
    """Should it be lost, so is the settlement that follows: the delivery comes again."""

    async def send(world: World) -> None:
        await world.queue(QUEUE.replace("workflow", "step"), {"n": 1})
        await world.queue(QUEUE.replace("workflow", "step"), {"n": 1}, delay_seconds=9)

    assert await delivered(world, send) == [False, False]


async def test_what_a_handler_records_is_flushed(world: World) -> None:
    """Others may have seen the event: it must not become undone."""

    async def send(world: World) -> None:
        await create_run(world, "wrun_1")
        await step_event(world, "wrun_1", "step_created")
        await world.streams.write("wrun_1", "log", b"chunk")

    assert await delivered(world, send) == [True, True, True]


async def test_what_anybody_else_enqueues_is_flushed(world: World) -> None:
    await world.messages.stats()
    commits = Commits(world)
    await world.queue(QUEUE, {"n": 1})
    assert commits.flushed == [True]


async def test_what_a_worker_takes_from_anybody_else_is_flushed(world: World) -> None:
    handler = Recorder()
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    commits = Commits(world)
    await message_in(world, await world.queue(QUEUE, {"n": 1}), "completed")
    assert commits.flushed == [True, False], "the message, and its settlement"


async def test_what_outlives_the_delivery_is_flushed(world: World) -> None:
    """A task that a handler left behind enqueues when nothing is left to deliver again."""
    settled, left = asyncio.Event(), list[asyncio.Task[str]]()

    async def later(world: World) -> str:
        await settled.wait()
        return await world.queue(QUEUE.replace("workflow", "step"), {"n": 1})

    async def send(world: World) -> None:
        left.append(asyncio.create_task(later(world)))

    await delivered(world, send)
    (message,) = (await world.messages.list()).data
    await message_in(world, message.message_id, "completed")
    commits = Commits(world)
    settled.set()
    await left[0]
    assert commits.flushed == [True]


async def test_what_a_handler_enqueues_elsewhere_is_flushed(world: World, tmp_path: Path) -> None:
    """The other database knows nothing of this delivery."""
    other = create_world(f"file:{tmp_path / 'other.db'}")
    try:
        await other.messages.stats()
        elsewhere = Commits(other)

        async def send(world: World) -> None:
            await other.queue(QUEUE, {"n": 1})

        await delivered(world, send)
        assert elsewhere.flushed == [True]
    finally:
        await other.close()
