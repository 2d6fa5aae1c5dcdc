"""Documents that hold what nobody wrote there: each read names the document, or is right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sql.test_damaged_rows import answers, fill_world, is_wrong

from workflow_world import World

from .conftest import MakeWorld
from .helpers import PATIENCE_S, QUEUE, Stored, create_run, event

pytestmark = pytest.mark.anyio

COLLECTIONS = ("runs", "steps", "events", "hooks", "queue_messages", "stream_chunks")
INTERNAL = {"_id", "entry", "held_key", "once", "resumed", "open_wait", "replays"}
"""No entity has them."""


def damages(value: object) -> Iterator[Any]:
    """What nobody would have stored instead."""
    yield from (one for one in ("text", 1.5, {"a": 1}) if type(one) is not type(value))
    if isinstance(value, bytes):
        yield b"\xff"


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_a_damaged_field_is_named_or_does_no_harm(
    world: World, stored: Stored, collection: str
) -> None:
    await fill_world(world)
    wanted = await answers(world)
    one = stored.alive(collection)[0]
    wrong: dict[str, Any] = {}
    for field in one.keys() - INTERNAL:
        for value in damages(one[field]):
            if type(value) is bytes and (collection, field) in (
                ("queue_messages", "payload"),
                ("stream_chunks", "data"),
            ):
                continue  # anybody's bytes
            stored[collection].replace_one({"_id": one["_id"]}, {**one, field: value})
            found = await answers(world)
            for name, right in wanted.items():
                if is_wrong(name, found[name], right, collection):
                    wrong[f"{collection}.{field} = {value!r}: {name}"] = found[name]
    stored[collection].replace_one({"_id": one["_id"]}, one)
    assert not wrong, "\n".join(f"{where}: {what!r:.200}" for where, what in wrong.items())
    assert await answers(world) == wanted, "mended, it is as it was"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("headers", b"\xff"),
        ("payload", "text"),
        ("available_at", "soon"),
        ("created_at", 7),
        ("attempt", "first"),
        ("deliveries", "few"),
        ("run_id", 7),
    ],
)
async def test_a_damaged_message_fails_and_the_queue_goes_on(
    make_world: MakeWorld, stored: Stored, field: str, value: Any
) -> None:
    world = make_world()
    heard = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        heard.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"})
    stored["queue_messages"].update_one({"_id": message_id}, {"$set": {field: value}})
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        await world.queue(QUEUE, {"runId": "wrun_2"})
        await heard.wait()
        if field != "available_at":  # it never falls due
            while stored["queue_messages"].find_one({"_id": message_id})["status"] != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("collection", "field", "value"),
    [
        ("runs", "workflow_name", 7),
        ("runs", "created_at", "noon"),
        ("runs", "last_claim_at", "noon"),
        ("runs", "last_waking_at", "noon"),
        ("steps", "step_name", 7),
        ("steps", "updated_at", 7),
        ("events", "due_at", "noon"),
    ],
)
async def test_the_recovery_of_others_goes_on(
    make_world: MakeWorld,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    collection: str,
    field: str,
    value: Any,
) -> None:
    world = make_world(recovery_grace_ms=0, recovery_interval_ms=50)
    heard = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        if message == {"runId": "wrun_2"}:
            heard.set()

    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    await world.events.create("wrun_1", event("step_created", "s", stepName="s", input=1))
    await world.events.create("wrun_1", event("wait_created", "w", resumeAt="2090-01-01T00:00:00Z"))
    await create_run(world, "wrun_2")
    about = {"open_wait": "wrun_1"} if collection == "events" else {"run_id": "wrun_1"}
    assert stored[collection].update_one(about, {"$set": {field: value}}).matched_count == 1
    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    said = [one.message for one in caplog.records if one.levelno >= logging.ERROR]
    assert any("wrun_1" in line for line in said), said


async def test_a_damaged_document_fails_nobody_elses_write(world: World, stored: Stored) -> None:
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    stored["runs"].update_one({"_id": "wrun_1"}, {"$set": {"attributes": 7}})
    found = await asyncio.gather(
        world.events.create("wrun_1", event("run_started")),
        world.events.create("wrun_2", event("run_started")),
        world.streams.write("wrun_2", "out", b"y"),
        return_exceptions=True,
    )
    assert [getattr(one, "code", None) for one in found] == ["CORRUPT", None, None]
    assert not any(isinstance(one, BaseException) for one in found[1:])
