"""Poison: what cannot be delivered ends or says why, and its neighbours never notice."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from workflow_world import World
from workflow_world.backend import NewMessage
from workflow_world.ids import new_id
from workflow_world.testing.clock import ManualClock

from .conftest import MakeWorld, Spawn
from .helpers import FLOW, FLOWS, create_run, event, until

pytestmark = pytest.mark.anyio

NEIGHBOURS = 5


@asynccontextmanager
async def going(clock: ManualClock) -> AsyncIterator[None]:
    """A clock that goes on by itself, a second at a time."""

    async def go() -> None:
        while True:
            clock.advance(1)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def send(world: World, run_id: str, payload: bytes | None = None) -> str:
    """A run and its message, with any bytes for a body."""
    await create_run(world, run_id)
    if payload is None:
        return await world.queue(FLOW, {"runId": run_id})
    message = NewMessage(
        message_id=new_id("msg"),
        queue_name=FLOW,
        payload=payload,
        max_attempts=3,
        run_id=run_id,
    )
    return await world.backend.messages.enqueue(message)


async def has_ended(world: World, run_id: str) -> bool:
    return (await world.runs.get(run_id)).is_final


class Panic(BaseException):
    """As those of PyO3, gevent's timeouts and pytest's outcomes are no ``Exception`` either."""


POISON: dict[str, tuple[BaseException | None, bytes | None, str]] = {
    "raises": (RuntimeError("bad luck"), None, "RuntimeError: bad luck"),
    "raises a group": (ExceptionGroup("g", [ValueError("v")]), None, "ValueError: v"),
    "exits": (SystemExit(3), None, "SystemExit: 3"),
    "panics": (Panic("in Rust"), None, "Panic: in Rust"),
    "is cancelled from within": (asyncio.CancelledError("c"), None, "CancelledError"),
    "recurses": (RecursionError("deep"), None, "RecursionError"),
    "runs out of memory": (MemoryError(), None, "MemoryError"),
    "body of garbage": (None, b"\xff\xff", "cannot be decoded"),
    "body cut off": (None, b"\xa1\x65runI", "cannot be decoded"),
    "no body": (None, b"", "cannot be decoded"),
    "body too deep": (None, b"\x81" * 5000, "cannot be decoded"),
}


@pytest.mark.parametrize("kind", POISON)
async def test_poison_ends_with_its_reason_and_alone(
    url: str, make_world: MakeWorld, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error, payload, reason = POISON[kind]
    clock = ManualClock()
    # The lease is out of this: the clock below goes faster than any handler works.
    world = make_world(url, clock=clock, poll_interval_ms=500, lock_duration_ms=86_400_000)
    calls = 0

    async def handler(message: object, **about: object) -> None:
        nonlocal calls
        assert isinstance(message, dict)
        if message["runId"] == "wrun_poison" and error is not None:
            calls += 1
            raise error
        await world.events.create(message["runId"], event("run_completed", output=b""))

    world.create_queue_handler(FLOWS, handler)
    message_id = await send(world, "wrun_poison", payload)
    neighbours = [f"wrun_{number}" for number in range(NEIGHBOURS)]
    for run_id in neighbours:
        await send(world, run_id)
    await world.start()
    async with going(clock):
        for run_id in ("wrun_poison", *neighbours):

            async def ended(run_id: str = run_id) -> bool:
                return await has_ended(world, run_id)

            await until(ended, run_id)
    assert [(await world.runs.get(run_id)).status for run_id in neighbours] == [
        "completed"
    ] * NEIGHBOURS
    run = await world.runs.get("wrun_poison")
    assert (run.status, run.error_code) == ("failed", "MAX_DELIVERIES_EXCEEDED")
    assert reason in str(run.error)
    message = await world.messages.get(message_id)
    assert (message.status, message.attempt) == ("failed", 3)
    assert reason in str(message.last_error)
    assert calls in (0, 3)

    async def is_said() -> bool:
        said = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
        return any(message_id in line and "wrun_poison" in line for line in said)

    await until(is_said, "nobody said it")  # right behind what is stored


async def test_a_handler_that_hangs_says_so_and_its_neighbours_go_on(
    url: str, make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process nothing ends it but the worker's own end: its run says what it waits for."""
    world = make_world(url, lock_duration_ms=60, shutdown_timeout_ms=0, poll_interval_ms=20)

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        if message["runId"] == "wrun_poison":
            await asyncio.Event().wait()
        await world.events.create(message["runId"], event("run_completed", output=b""))

    world.create_queue_handler(FLOWS, handler)
    await world.start()
    message_id = await send(world, "wrun_poison")
    for number in range(NEIGHBOURS):
        await send(world, f"wrun_{number}")
        await world.runs.wait(f"wrun_{number}", 60)

    async def is_said() -> bool:
        lines = [one.getMessage() for one in caplog.records]
        return any(f"Message {message_id} has been with its handler" in line for line in lines)

    await until(is_said)
    assert (await world.messages.get(message_id)).status == "processing"


@asynccontextmanager
async def application(handle: Any, port: int = 0) -> AsyncIterator[int]:
    """An HTTP server on loopback that answers with ``handle(body)``. Gives its port."""
    open_ones: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                found = re.search(rb"content-length: (\d+)", head.lower())
                assert found is not None
                answer = await handle(json.loads(await reader.readexactly(int(found[1]))))
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            open_ones.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in tuple(open_ones):
            writer.close()
        await asyncio.sleep(0)


async def test_a_callback_that_hangs_fails_its_run_after_its_attempts(
    url: str, make_world: MakeWorld
) -> None:
    never = asyncio.Event()

    async def handle(body: dict[str, str]) -> int:
        if body["runId"] == "wrun_poison":
            await never.wait()
        return 200

    async with application(handle) as port:
        world = make_world(
            url,
            base_url=f"http://127.0.0.1:{port}",
            delivery="http",
            http_timeout_s=3.0,
            lock_duration_ms=1500,
            max_retries=2,
        )
        message_id = await send(world, "wrun_poison")
        neighbour = await send(world, "wrun_1")
        await world.start()
        run = await world.runs.wait("wrun_poison", 60)
        never.set()
        assert (run.status, run.error_code) == ("failed", "MAX_DELIVERIES_EXCEEDED")
        assert "no answer within 3.0 s" in str(run.error)
        assert (await world.messages.get(message_id)).deliveries == 2

        async def done() -> bool:
            return (await world.messages.get(neighbour)).status == "completed"

        await until(done)
        await world.close()


async def test_ten_minutes_without_the_application_cost_no_attempt(
    url: str, make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    async with application(None) as port:
        pass  # from here on nobody listens there
    world = make_world(
        url,
        clock=clock,
        base_url=f"http://127.0.0.1:{port}",
        delivery="http",
        max_retries=1,
        lock_duration_ms=86_400_000,
    )
    message_id = await send(world, "wrun_1")
    began = clock.now()
    await world.start()
    async with going(clock):

        async def ten_minutes() -> bool:
            return (clock.now() - began).total_seconds() >= 600

        await until(ten_minutes)
        message = await world.messages.get(message_id)
        assert message.status in ("pending", "processing")
        assert message.attempt == 1
        assert "cannot be reached" in str(message.last_error)
        assert not await has_ended(world, "wrun_1")
        lines = [one for one in caplog.records if "cannot be reached" in one.getMessage()]
        assert 5 <= len(lines) <= 40, "it is said, and not all the time"
        heard: list[str] = []

        async def handle(body: dict[str, str]) -> int:
            heard.append(body["runId"])
            return 200

        async with application(handle, port):

            async def done() -> bool:
                return (await world.messages.get(message_id)).status == "completed"

            await until(done)
            await world.close()
        assert heard == ["wrun_1"]


async def test_unknown_workflows_and_steps_end_with_a_reason(url: str, spawn: Spawn) -> None:
    """With the SDK's own handlers, beside a run that is none of that."""
    (line,) = await asyncio.to_thread(spawn(url, script="unknown.py").end)
    found = json.loads(line)
    assert found["good"] == ["completed", ""]
    for name in ("unknown workflow", "unknown step"):
        status, reason = found[name]
        assert status == "failed", found
        assert "nope" in reason, found
