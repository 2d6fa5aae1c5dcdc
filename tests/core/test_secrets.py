"""Passwords, tokens and payloads stay out of logs, errors and reprs, also when all goes wrong."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from workflow_world import World, create_world
from workflow_world.core.entities import Message

SECRET = "s3cret"  # noqa: S105  # what must never be seen
PAYLOAD = "pr1vate"

pytestmark = pytest.mark.anyio


def a_closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def failed_once(world: World, message_id: str) -> Message:
    async with asyncio.timeout(20):
        while True:
            message = await world.messages.get(message_id)
            if message.last_error is not None:
                return message
            await asyncio.sleep(0.005)


async def test_b196_a_callback_that_fails_shows_neither_password_nor_payload(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything is logged at the lowest level; the message carries the error, not its secrets."""
    caplog.set_level(logging.DEBUG)
    url = f"http://user:{SECRET}@127.0.0.1:{a_closed_port()}"
    async with create_world("memory:", base_url=url, delivery="http") as world:
        body = {"runId": "wrun_1", "note": PAYLOAD}
        message_id = await world.queue("__wkf_workflow_greet", body, headers={"x-token": SECRET})
        message = await failed_once(world, message_id)
    assert SECRET not in str(message.last_error)
    assert SECRET not in caplog.text
    assert PAYLOAD not in caplog.text
    assert SECRET not in repr(world)


async def test_b196_a_handler_that_fails_shows_no_payload_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The traceback, which is the application's own, is for the lowest level alone."""
    caplog.set_level(logging.INFO)

    async def handler(message: object, **_: object) -> None:
        raise RuntimeError(f"postgresql://user:{SECRET}@host/db is down")

    world = create_world("memory:")
    world.create_queue_handler("__wkf_workflow_", handler)
    async with world:
        body = {"runId": "wrun_1", "note": PAYLOAD}
        message_id = await world.queue("__wkf_workflow_greet", body)
        message = await failed_once(world, message_id)
    assert "is down" in str(message.last_error)
    assert SECRET not in str(message.last_error)
    assert SECRET not in caplog.text
    assert PAYLOAD not in caplog.text


async def test_b196_keys_and_tokens_are_not_in_reprs() -> None:
    world = create_world(
        "memory:",
        base_url=f"http://user:{SECRET}@host",
        run_key=lambda run_id, **_: SECRET.encode() * 6,
    )
    assert "run_key" not in repr(world.settings)
    assert SECRET not in repr(world.settings)
    await world.close()
