"""A worker among damaged rows: what cannot go on ends and says why, and its neighbours go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from workflow_world import World

from .conftest import MakeWorld
from .helpers import PATIENCE_S, PREFIX, QUEUE, create_run, raw, step_event

pytestmark = pytest.mark.anyio


def damage(path: Path, sql: str, *values: object) -> None:
    with raw(path) as connection:
        assert connection.execute(sql, values).rowcount == 1


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110  # a worker makes it so
            await asyncio.sleep(0.01)


async def neighbours_are_delivered(world: World) -> None:
    heard = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        heard.set()

    world.create_queue_handler(PREFIX, handler)
    await world.queue(QUEUE, {"runId": "wrun_2"})
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()


@pytest.mark.parametrize(
    "change",
    [
        "headers = '{'",
        "headers = '[]'",
        "last_error = 'x'",
        "payload = 'text'",
        "idempotency_key = x'00'",
        "available_at = -9000000000000000",
        "created_at = 9000000000000000000",
        "deliveries = 'few'",
        "attempt = 'first'",
    ],
)
async def test_a_damaged_message_fails_its_run_with_the_reason(
    make_world: MakeWorld, path: Path, change: str
) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"})
    damage(path, f"UPDATE queue_messages SET {change} WHERE message_id = ?", message_id)  # noqa: S608
    await world.start()
    await neighbours_are_delivered(world)
    run = await world.runs.wait("wrun_1", 30)
    assert (run.status, run.error_code) == ("failed", "MAX_DELIVERIES_EXCEEDED")
    assert "queue_messages" in str(run.error)
    assert message_id in str(run.error)
    with raw(path) as connection:
        ((status, error),) = connection.execute(
            "SELECT status, last_error FROM queue_messages WHERE message_id = ?", (message_id,)
        )
    assert status == "failed"
    assert "is damaged" in error


@pytest.mark.parametrize("time", ["'soon'", "9000000000000000000"])
async def test_a_message_that_never_falls_due_keeps_nobody_waiting(
    make_world: MakeWorld, path: Path, time: str
) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"})
    damage(
        path,
        f"UPDATE queue_messages SET available_at = {time} WHERE message_id = ?",  # noqa: S608
        message_id,
    )
    await world.start()
    await neighbours_are_delivered(world)


_LEASED = "status = 'processing', lease_token = 'x', leased_until"


@pytest.mark.parametrize(
    "change",
    [
        "available_at = -9000000000000000",
        f"{_LEASED} = 'soon'",
        f"{_LEASED} = 9000000000000000000",
    ],
)
async def test_an_idle_worker_looks_past_a_damaged_time(
    make_world: MakeWorld, path: Path, change: str
) -> None:
    """Of another process it hears only through the database."""
    world, other = make_world(), make_world()
    heard = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        heard.set()

    world.create_queue_handler(PREFIX, handler)
    await world.start()
    later = await other.queue(QUEUE, {"runId": "wrun_1"}, delay_seconds=3600)
    await asyncio.sleep(0.3)
    damage(path, f"UPDATE queue_messages SET {change} WHERE message_id = ?", later)  # noqa: S608
    await other.queue(QUEUE, {"runId": "wrun_2"})
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()


@pytest.mark.parametrize(
    "change",
    [
        "available_at = 9000000000000000000",
        f"{_LEASED} = 'soon'",
        f"{_LEASED} = x'00'",
    ],
)
async def test_a_damaged_time_holds_nothing_of_its_run_back(
    make_world: MakeWorld, path: Path, change: str
) -> None:
    world, other = make_world(), make_world()

    async def handler(message: object, **about: object) -> None: ...

    world.create_queue_handler(PREFIX, handler)
    await world.start()
    later = await other.queue(QUEUE, {"runId": "wrun_1"}, delay_seconds=3600)
    damage(path, f"UPDATE queue_messages SET {change} WHERE message_id = ?", later)  # noqa: S608
    message_id = await other.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")

    async def completed() -> bool:
        return (await world.messages.get(message_id)).status == "completed"

    await until(completed)


async def test_a_damaged_run_does_not_keep_its_message(
    make_world: MakeWorld, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be failed, for that would need its row; this is said, and others go on."""
    world = make_world(max_retries=1)
    await create_run(world, "wrun_1")
    await create_run(world, "wrun_2")

    async def handler(message: object, **about: object) -> None:
        if message == {"runId": "wrun_1"}:
            await world.runs.get("wrun_1")

    world.create_queue_handler(PREFIX, handler)
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"})
    damage(path, "UPDATE workflow_runs SET attributes = '{' WHERE run_id = 'wrun_1'")
    await world.start()

    async def failed() -> bool:
        return (await world.messages.get(message_id)).status == "failed"

    await until(failed)
    message = await world.messages.get(message_id)
    assert "The row of workflow_runs with run_id 'wrun_1' is damaged" in str(message.last_error)
    said = [one.message for one in caplog.records if one.levelno >= logging.ERROR]
    assert any("Run wrun_1 cannot be failed" in line for line in said), said
    await neighbours_are_delivered(world)
    with raw(path) as connection:
        ((attributes,),) = connection.execute(
            "SELECT attributes FROM workflow_runs WHERE run_id = 'wrun_1'"
        )
    assert attributes == "{", "what was there is kept"


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        ("workflow_runs SET attributes = '{'", "A run cannot be recovered"),
        ("workflow_runs SET workflow_name = ''", "cannot be woken"),
        ("workflow_runs SET last_claim_at = 9223372036854775807", "A run cannot be recovered"),
        ("workflow_steps SET step_name = x'ff'", "A run cannot be recovered"),
        ("workflow_steps SET updated_at = 9223372036854775807", "A run cannot be recovered"),
    ],
)
async def test_the_recovery_of_others_goes_on(
    make_world: MakeWorld,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    change: str,
    said_of_it: str,
) -> None:
    world = make_world(recovery_grace_ms=0, recovery_interval_ms=50)
    await create_run(world, "wrun_1")
    if "steps" in change:
        await world.events.create("wrun_1", {"eventType": "run_started"})
        await step_event(world, "wrun_1", "step_created")
    await create_run(world, "wrun_2")
    damage(path, f"UPDATE {change} WHERE run_id = 'wrun_1'")
    heard = asyncio.Event()

    async def handler(message: object, **about: object) -> None:
        if message == {"runId": "wrun_2"}:
            heard.set()

    world.create_queue_handler(PREFIX, handler)
    await world.start()
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    said = [one.message for one in caplog.records if one.levelno >= logging.ERROR]
    assert any(said_of_it in line and "wrun_1" in line for line in said)


async def test_a_damaged_row_undoes_what_was_written_before_it_was_found(
    make_world: MakeWorld, path: Path
) -> None:
    """Its neighbours in the same transaction are written all the same."""
    world = make_world()
    for run_id in ("wrun_1", "wrun_2"):
        await create_run(world, run_id)
    damage(path, "UPDATE workflow_runs SET attributes = '{' WHERE run_id = 'wrun_1'")
    started = {"eventType": "run_started"}
    first, second = await asyncio.gather(
        world.events.create("wrun_1", started),
        world.events.create("wrun_2", started),
        return_exceptions=True,
    )
    assert getattr(first, "code", None) == "CORRUPT"
    assert not isinstance(second, BaseException)
    with raw(path) as connection:
        counts = connection.execute(
            "SELECT run_id, count(*) FROM workflow_events GROUP BY run_id ORDER BY run_id"
        ).fetchall()
    assert counts == [("wrun_1", 1), ("wrun_2", 2)]
