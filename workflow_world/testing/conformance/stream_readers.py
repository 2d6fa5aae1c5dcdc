"""Live readers of streams (B171 to B177, B181 to B183)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ...core.chunks import PAGE_BYTES, PAGE_CHUNKS
from ...errors import (
    BackendError,
    InvalidRequestError,
    WorldClosedError,
)
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .helpers import RUN, end_run, start_run
from .queue_helpers import PATIENCE_S, eventually
from .streams import NAME, read_all, write
from .watched import Watched

MEBIBYTE = 1 << 20


async def next_of(reader: AsyncGenerator[bytes, None]) -> bytes:
    """The next chunk, which must come."""
    async with asyncio.timeout(PATIENCE_S):
        return await anext(reader)


async def ended(reader: AsyncGenerator[bytes, None]) -> None:
    """The reader must end normally, and now."""
    async with asyncio.timeout(PATIENCE_S):
        assert [chunk async for chunk in reader] == []


async def waits(task: asyncio.Task[bytes]) -> None:
    """The reader had every opportunity to go on, and did not."""
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not task.done()


def reading(reader: AsyncGenerator[bytes, None]) -> asyncio.Task[bytes]:
    """The next chunk, asked for in the background."""

    async def read() -> bytes:
        return await anext(reader)

    return asyncio.create_task(read())


@pytest.mark.anyio
async def test_b171_live_reader_gets_later_chunks(make_world: MakeWorld) -> None:
    """Written in this World and in another one, then the end at the close."""
    world, rival = make_world(real_time=True), make_world(real_time=True)
    here, there = world.streams.get(RUN, NAME), rival.streams.get(RUN, NAME)
    early = [reading(here), reading(there)]
    await waits(early[0])
    await world.streams.write(RUN, NAME, b"0")
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*early) == [b"0", b"0"]
    for number in range(1, 20):
        writer = (world, rival)[number % 2]
        await writer.streams.write(RUN, NAME, f"{number}")
        for reader in (here, there):
            assert await next_of(reader) == f"{number}".encode()
    await rival.streams.close(RUN, NAME)
    await ended(here)
    await ended(there)


@pytest.mark.anyio
async def test_b171_write_here_wakes_a_reader_without_a_poll(
    world: World, clock: ManualClock
) -> None:
    """With a clock that stands still only the notification can wake the reader."""
    reader = world.streams.get(RUN, NAME)
    for number in range(5):
        waiting = reading(reader)
        await asyncio.sleep(0.01)
        await world.streams.write(RUN, NAME, f"{number}")
        async with asyncio.timeout(PATIENCE_S):
            assert await waiting == f"{number}".encode()
    await world.streams.close(RUN, NAME)
    await ended(reader)


@pytest.mark.anyio
async def test_b172_reader_stays_open(make_world: MakeWorld) -> None:
    """Neither an idle stream nor the end of its run ends a reader."""
    world = make_world(real_time=True)
    await start_run(world)
    await write(world, b"a")
    reader = world.streams.get(RUN, NAME)
    assert await next_of(reader) == b"a"
    waiting = reading(reader)
    await waits(waiting)
    await end_run(world)
    await waits(waiting)
    await write(world, b"b")
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == b"b"
    await reader.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("start_index", "expected"),
    [
        (None, b"01234"),
        (0, b"01234"),
        (2, b"234"),
        (4, b"4"),
        (-1, b"4"),
        (-3, b"234"),
        (-5, b"01234"),
        (-6, b"01234"),
        (-1_000_000, b"01234"),
    ],
)
async def test_b173_start_index(
    make_world: MakeWorld, start_index: int | None, expected: bytes, closed: bool
) -> None:
    """From the beginning, from an index, or counted back; the close mark is no chunk (B174)."""
    world = make_world(real_time=True)
    await write(world, b"0", b"1", b"2", b"3", b"4")
    if closed:
        await world.streams.close(RUN, NAME)
        assert b"".join(await read_all(world, start_index)) == expected
        return
    reader = world.streams.get(RUN, NAME, start_index)
    for number in expected:
        assert await next_of(reader) == bytes([number])
    await world.streams.close(RUN, NAME)
    await ended(reader)


@pytest.mark.anyio
@pytest.mark.parametrize("start_index", [True, 1.5, "1"])
async def test_start_that_is_no_whole_number(world: World, start_index: Any) -> None:
    """400, before anything is read."""
    with pytest.raises(InvalidRequestError):
        world.streams.get(RUN, NAME, start_index)


@pytest.mark.anyio
@pytest.mark.parametrize("start_index", [5, 6, 1000, 10**12])
async def test_b173_start_beyond_a_closed_stream_ends_at_once(
    world: World, start_index: int
) -> None:
    """Nothing will come there any more."""
    await write(world, b"0", b"1", b"2", b"3", b"4")
    await world.streams.close(RUN, NAME)
    assert await read_all(world, start_index) == []


@pytest.mark.anyio
async def test_b173_start_beyond_an_open_stream_waits(make_world: MakeWorld) -> None:
    """For that index, or for the close."""
    world = make_world(real_time=True)
    await write(world, b"0")
    at_count, beyond = world.streams.get(RUN, NAME, 1), world.streams.get(RUN, NAME, 3)
    waiting = reading(beyond)
    await write(world, b"1", b"2")
    assert [await next_of(at_count) for _ in range(2)] == [b"1", b"2"]
    await waits(waiting)
    await write(world, b"3")
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == b"3"
    far = world.streams.get(RUN, NAME, 100)
    end = asyncio.create_task(ended(far))
    await world.streams.close(RUN, NAME)
    await end
    await at_count.aclose()
    await ended(beyond)


@pytest.mark.anyio
async def test_b174_negative_start_is_resolved_when_the_read_begins(
    make_world: MakeWorld,
) -> None:
    """Of an empty stream: from the beginning, whatever is written later."""
    world = make_world(real_time=True)
    empty = world.streams.get(RUN, "empty", -3)
    waiting = reading(empty)
    await waits(waiting)
    await write(world, b"0", b"1", b"2", b"3", b"4", name="empty")
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == b"0"
    assert [await next_of(empty) for _ in range(4)] == [b"1", b"2", b"3", b"4"]
    await empty.aclose()


@pytest.mark.anyio
async def test_b176_readers_of_many_writers_see_one_order(make_world: MakeWorld) -> None:
    """10 readers, 3 writers, two Worlds: the same total order, nothing lost or twice."""
    worlds = [make_world(real_time=True) for _ in range(2)]

    async def write_many(writer: int) -> None:
        for number in range(30):
            chunks = [f"{writer}:{number}:{part}" for part in range(1 + number % 3)]
            await write(worlds[writer % 2], *chunks)

    readers = [asyncio.create_task(read_all(worlds[number % 2])) for number in range(10)]
    await asyncio.gather(*(write_many(writer) for writer in range(3)))
    await worlds[0].streams.close(RUN, NAME)
    first, *others = await asyncio.gather(*readers)
    assert all(other == first for other in others)
    assert len(set(first)) == len(first) == 3 * 60
    for writer in range(3):
        own = [chunk for chunk in first if chunk.startswith(f"{writer}:".encode())]
        assert own == [
            f"{writer}:{number}:{part}".encode()
            for number in range(30)
            for part in range(1 + number % 3)
        ]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["cancel", "aclose"])
async def test_b177_one_reader_leaving_does_not_disturb_others(
    make_world: MakeWorld, how: str
) -> None:
    """The others go on, and no background work of the one stays behind."""
    world = make_world(real_time=True)
    await write(world, b"0")
    before = asyncio.all_tasks()
    leaving, staying = world.streams.get(RUN, NAME), world.streams.get(RUN, NAME)
    assert await next_of(leaving) == await next_of(staying) == b"0"
    if how == "cancel":
        waiting = reading(leaving)
        await waits(waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        await leaving.aclose()
    await write(world, b"1")
    assert await next_of(staying) == b"1"
    await staying.aclose()

    async def left() -> set[asyncio.Task[object]]:
        return asyncio.all_tasks() - before

    await eventually(left, lambda tasks: not tasks)


@pytest.mark.anyio
@pytest.mark.timeout(300)
async def test_b181_reader_holds_one_page_at_a_time(make_world: MakeWorld) -> None:
    """40 MiB through one stream: pages of at most 100 chunks and 1 MiB, and none ahead."""
    backend = Watched()
    world, writer = make_world(real_time=True, wrap=backend.around), make_world(real_time=True)
    sizes = [MEBIBYTE // 8] * 300 + [3 * MEBIBYTE] + [10] * 250
    sizes.append(40 * MEBIBYTE - sum(sizes) if sum(sizes) < 40 * MEBIBYTE else 1)
    for first in range(0, len(sizes), 50):
        chunks = [
            bytes([number % 251]) * size
            for number, size in enumerate(sizes[first : first + 50], first)
        ]
        await write(writer, *chunks)
    await writer.streams.close(RUN, NAME)
    read, index = 0, 0
    async for chunk in world.streams.get(RUN, NAME):
        assert chunk[:1] == chunk[-1:] == bytes([index % 251])
        assert len(chunk) == sizes[index]
        read, index = read + len(chunk), index + 1
        pages = backend.results("chunks.page")
        assert sum(len(page) for page, _ in pages[:-1]) < index
    assert (read, index) == (sum(sizes), len(sizes))
    for page, _ in backend.results("chunks.page"):
        size = sum(len(chunk.data) for chunk in page)
        assert len(page) <= PAGE_CHUNKS
        assert size <= PAGE_BYTES or len(page) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("start_index", [None, -2])
async def test_b182_reader_survives_a_short_outage(
    make_world: MakeWorld, start_index: int | None
) -> None:
    """Three failures in a row: nothing lost, nothing twice."""
    backend = Watched()
    world, writer = make_world(real_time=True, wrap=backend.around), make_world(real_time=True)
    await write(writer, b"0", b"1")
    backend.fail(lambda verb: verb.startswith("chunks.") and backend.failures < 3)
    reader = world.streams.get(RUN, NAME, start_index)
    assert [await next_of(reader) for _ in range(2)] == [b"0", b"1"]
    waiting = reading(reader)
    backend.fail(lambda verb: verb.startswith("chunks.") and backend.failures < 6)
    await write(writer, b"2")
    await writer.streams.close(RUN, NAME)
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == b"2"
    await ended(reader)


@pytest.mark.anyio
async def test_b182_reader_raises_in_a_long_outage(make_world: MakeWorld) -> None:
    """It must not end: an end means that the stream was closed."""
    backend = Watched()
    world = make_world(real_time=True, wrap=backend.around)
    await write(world, b"0")
    reader = world.streams.get(RUN, NAME)
    assert await next_of(reader) == b"0"
    backend.fail(lambda verb: verb.startswith("chunks."))
    with pytest.raises(BackendError):
        await next_of(reader)
    backend.come_back()
    await world.streams.close(RUN, NAME)
    assert await read_all(world, 0) == [b"0"]


@pytest.mark.anyio
async def test_b183_closing_the_world_ends_its_readers(make_world: MakeWorld) -> None:
    """With WorldClosedError, not with an end; readers of other Worlds go on."""
    world, other = make_world(real_time=True), make_world(real_time=True)
    await write(world, b"0", b"1")
    waiting, paused = world.streams.get(RUN, NAME), world.streams.get(RUN, NAME)
    elsewhere = other.streams.get(RUN, NAME, -1)
    assert [await next_of(waiting) for _ in range(2)] == [b"0", b"1"]
    assert await next_of(paused) == b"0"
    assert await next_of(elsewhere) == b"1"
    task = reading(waiting)
    await waits(task)
    await world.close()
    with pytest.raises(WorldClosedError):
        async with asyncio.timeout(PATIENCE_S):
            await task
    # What a paused reader has in hand may still come, but then the error and no end.
    assert await next_of(paused) == b"1"
    with pytest.raises(WorldClosedError):
        await next_of(paused)
    await write(other, b"2")
    assert await next_of(elsewhere) == b"2"
    await elsewhere.aclose()
