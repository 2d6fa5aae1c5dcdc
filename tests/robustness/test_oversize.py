"""Payloads of any size: stored byte for byte, or refused with their size and the limit; never a
half of them."""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import Any

import pytest

from workflow_world import PayloadTooLargeError, World
from workflow_world.check import check

from .conftest import MakeWorld, Spawn
from .helpers import FLOW, FLOWS, LONG, create_run, event, not_on_libsql, until
from .oversize import RUN, content, step
from .spent import deserted

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZES = {"nothing": 0, "1 MiB": MIB, "16 MiB + 1": 16 * MIB + 1, "64 MiB": 64 * MIB}


async def begin(world: World) -> None:
    await create_run(world, RUN)
    await world.events.create(RUN, event("run_started"))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@not_on_libsql
async def test_it_comes_back_byte_for_byte(url: str, make_world: MakeWorld, size: int) -> None:
    """A step's result, a message's body and a chunk, read by a World whose caches are empty."""
    writer, reader = make_world(url), make_world(url)
    await begin(writer)
    await step(writer, 0, size)
    await writer.streams.write(RUN, "out", content(size, 1))
    await writer.streams.close(RUN, "out")
    got = list[Any]()

    async def handler(message: object, **about: object) -> None:
        got.append(message)

    await writer.queue(FLOW, {"runId": RUN, "body": content(size, 2)})
    # The worker has to read it: it did not enqueue it.
    reader.create_queue_handler(FLOWS, handler)
    await reader.start()

    async def came() -> bool:
        return bool(got)

    await until(came)
    assert got == [{"runId": RUN, "body": content(size, 2)}]
    assert (await reader.steps.get(RUN, "step_000")).output == content(size, 0)
    assert (await reader.events.list(RUN)).data[-1].event_data == {"result": content(size, 0)}
    (chunk,) = (await reader.streams.get_chunks(RUN, "out")).data
    assert chunk.data == content(size, 1)
    live = [one async for one in reader.streams.get(RUN, "out")]
    assert live == ([content(size, 1)] if size else [])


@not_on_libsql
async def test_what_is_over_the_limit_is_refused_and_its_neighbours_are_not(
    url: str, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: Any = make_world(url)
    await begin(world)
    database = world.backend.database
    limits = database.capabilities
    assert database.max_value == limits.max_payload_bytes >= 256 * MIB
    if not LONG:
        monkeypatch.setattr(database, "max_value", MIB)
    limit = database.max_value
    before = await world.events.list(RUN)
    large = bytes(limit + 1)

    def small(number: int) -> Any:
        created = event("step_created", f"step_{number}", stepName="s", input=b"")
        return world.events.create(RUN, created)

    # All of one batch.
    done = await asyncio.gather(
        small(1),
        world.events.create(RUN, event("step_created", "large", stepName="s", input=large)),
        small(2),
        world.queue(FLOW, {"runId": RUN, "body": large}),
        small(3),
        return_exceptions=True,
    )
    for refused in (done[1], done[3]):
        assert isinstance(refused, PayloadTooLargeError), refused
        said, allowed = map(int, re.findall(r"\d+", str(refused)))
        assert (refused.status, allowed) == (413, limit)
        assert limit < said < limit + 100
    log = (await world.events.list(RUN)).data
    assert [one.correlation_id for one in log[len(before.data) :]] == ["step_1", "step_2", "step_3"]
    assert not (await world.messages.list()).data

    chunk = limits.max_chunk_bytes + 1
    with pytest.raises(PayloadTooLargeError, match=f"{chunk} bytes is over the {chunk - 1} bytes"):
        await world.streams.write(RUN, "out", bytes(chunk))
    assert not await world.streams.list(RUN)
    await world.events.create(RUN, event("run_completed", output=b""))
    assert not (await check(world)).findings


@not_on_libsql
async def test_a_process_killed_in_a_large_write_leaves_all_of_it_or_nothing(
    request: pytest.FixtureRequest, url: str, make_world: MakeWorld, spawn: Spawn, seed: int
) -> None:
    server = request.getfixturevalue("server") if url.startswith("postgresql:") else None
    chance = random.Random(seed)  # noqa: S311
    world = make_world(url)
    await begin(world)
    await world.queue(FLOW, {"runId": RUN}, delay_seconds=86_400)  # somebody will wake it
    await world.close()
    size, first = 4 * MIB, 0
    for _ in range(100 if LONG else 1):
        writer = spawn(url, str(first), str(size), script="oversize.py")
        assert await asyncio.to_thread(writer.line) == "ready"
        time.sleep(chance.uniform(0, 0.4))  # noqa: ASYNC251  # nothing else is to happen
        writer.kill()
        if server is not None:
            deserted(server, url)
        world = make_world(url)
        first = await whole_steps(world, size, first)
        await world.close()
    print(f"{first} steps of {size >> 20} MiB")  # noqa: T201


async def whole_steps(world: World, size: int, first: int) -> int:
    """Each step from the first on is whole; the last one may still have to be completed.

    Returns: the number of steps, all of which are completed now.
    """
    page = await world.steps.list(RUN, limit=1000, resolve_data="none")
    names = sorted(one.step_id for one in page.data)
    assert names == [f"step_{number:03}" for number in range(len(names))]
    for number, name in enumerate(names[first:], first):
        one = await world.steps.get(RUN, name)
        if one.status == "completed":
            assert one.output == content(size, number)
            continue
        assert (number, one.status) == (len(names) - 1, "pending")
        assert (await world.events.list(RUN)).data[-1].event_type == "step_created"
        await world.events.create(RUN, event("step_completed", name, result=b""))
    assert not (await check(world)).findings
    return len(names)
