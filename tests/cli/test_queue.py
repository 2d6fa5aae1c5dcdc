"""``workflow-world status`` and ``purge``."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from workflow_world import create_world

from .conftest import Call, Spawn

QUEUE = "__wkf_workflow_greet"


async def fill() -> None:
    """One message each: completed, failed, and pending in a minute."""
    world = create_world(max_retries=1, idempotency_ttl_ms=0)

    async def handler(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
        if message == {"fail": True}:
            raise ValueError("no")

    world.create_queue_handler("__wkf_workflow_", handler)
    async with world:
        await world.queue(QUEUE, {"fail": False})
        await world.queue(QUEUE, {"fail": True})
        await world.queue(QUEUE, {"later": True}, delay_seconds=60)
        async with asyncio.timeout(20):
            while True:
                counts = (await world.messages.stats()).counts[QUEUE]
                if counts.get("completed") == counts.get("failed") == 1:
                    return
                await asyncio.sleep(0.01)


def counts(call: Call) -> dict[str, int]:
    result = call("status", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, int] = json.loads(result.stdout)["queues"].get(QUEUE, {})
    return found


def test_status_and_purge(call: Call) -> None:
    asyncio.run(fill())
    assert counts(call) == {"pending": 1, "processing": 0, "completed": 1, "failed": 1}
    table = call("status")
    assert table.exit_code == 0
    assert QUEUE in table.stdout
    assert "due in" in table.stdout

    # An hour later: completed messages answer for their idempotency keys a few seconds at least.
    connection = sqlite3.connect("workflow.db")
    with connection:
        connection.execute("UPDATE queue_messages SET processed_at = processed_at - 3600 * 1000")
    connection.close()
    for arguments, deleted in (
        (("--older-than", "7200"), "0 finished messages"),
        ((), "1 finished message"),
        ((), "0 finished messages"),
        (("--failed", "--older-than", "7200"), "0 finished messages"),
        (("--failed",), "1 finished message"),
    ):
        result = call("purge", *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"file:workflow.db: deleted {deleted}\n"
    assert counts(call) == {"pending": 1, "processing": 0, "completed": 0, "failed": 0}


def test_names_of_queues_are_whole(call: Call) -> None:
    names = [f"__wkf_workflow_workflow//flows/of/many/{'x' * 70}/{end}" for end in ("one", "two")]

    async def enqueue() -> None:
        world = create_world()
        for name in names:
            await world.queue(name, {})
        await world.close()

    asyncio.run(enqueue())
    printed = "".join(call("status").stdout.split())
    assert all(end in printed for end in ("one", "two"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("purge", "--older-than", "nan"), "no number"),
        (("purge", "--older-than", "inf"), "not in the range"),
        (("purge", "--older-than", "1e300"), "not in the range"),
        (("purge", "--url", ""), "--url is empty"),
        (("check", "file:one.db", "--url", "file:two.db"), "twice"),
        (("repair", "file:one.db", "--url", "file:two.db", "--apply"), "twice"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    call: Call, arguments: tuple[str, ...], said: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_token_for_a_url_is_not_shown(call: Call) -> None:
    token = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicnciLCJpYXQiOjE3fQ.c2lnbmF0dXJlLW9mLWl0"  # noqa: S105
    result = call("status", "--url", token)
    assert result.exit_code == 1
    assert "no scheme" in result.output
    assert token[:12] not in result.output


def test_output_without_a_terminal_has_no_colour(spawn: Spawn) -> None:
    asyncio.run(fill())
    for result in (spawn("status"), spawn("status", "--url", "bad")):
        assert "\x1b" not in result.stdout + result.stderr


def test_no_color_is_honoured(spawn: Spawn) -> None:
    asyncio.run(fill())
    coloured = spawn("status", "--url", "bad", FORCE_COLOR="1")
    assert "\x1b[" in coloured.stderr
    plain = spawn("status", "--url", "bad", FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[31m" not in plain.stderr
    assert "\x1b[1;31m" not in plain.stderr


async def leave_one() -> None:
    world = create_world()
    await world.queue(QUEUE, {})
    await world.close()


def test_status_says_that_nobody_takes_a_message(call: Call) -> None:
    asyncio.run(leave_one())
    assert "Nobody takes it" not in call("status").stdout
    connection = sqlite3.connect("workflow.db")
    with connection:
        connection.execute("UPDATE queue_messages SET available_at = available_at - 60 * 1000")
    assert "Nobody takes it: is a worker running" in call("status").stdout
    connection.close()
