"""Streams: chunks, order, snapshot pages (B167 to B170, B175, B178 to B180)."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from ...errors import (
    EntityConflictError,
    InvalidRequestError,
    PayloadTooLargeError,
    StreamClosedError,
    WorldError,
)
from ...world import World
from ..clock import ManualClock
from .helpers import RUN
from .queue_helpers import PATIENCE_S

NAME = "strm_1_user"
CHUNKS = [bytes(range(256)), b"\x00", b"\xff\xfe", "grüße 🌍".encode(), b"x" * 100_000]


async def read_all(
    world: World, start_index: int | None = None, *, run_id: str = RUN, name: str = NAME
) -> list[bytes]:
    """Read live to the end."""
    async with asyncio.timeout(PATIENCE_S):
        return [chunk async for chunk in world.streams.get(run_id, name, start_index)]


async def write(world: World, *chunks: bytes | str, name: str = NAME, run_id: str = RUN) -> None:
    await world.streams.write_multi(run_id, name, chunks)


@pytest.mark.anyio
async def test_b167_chunks_are_read_as_they_were_written(world: World, rival: World) -> None:
    """Same chunks, same boundaries, any bytes; text is UTF-8; no run row is needed."""
    for chunk in CHUNKS:
        await world.streams.write(RUN, NAME, chunk)
    await world.streams.write(RUN, NAME, "grüße")
    await world.streams.close(RUN, NAME)
    expected = [*CHUNKS, "grüße".encode()]
    assert await read_all(world) == await read_all(rival) == expected
    assert await world.runs.get_many([RUN]) == [None]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_b167_other_bytes_like_chunks(world: World, kind: type) -> None:
    """bytearray and memoryview are stored as bytes."""
    await world.streams.write(RUN, NAME, kind(b"abc"))
    await world.streams.close(RUN, NAME)
    assert await read_all(world) == [b"abc"]


@pytest.mark.anyio
async def test_b168_write_multi_keeps_the_order(world: World) -> None:
    """Consecutive indices, far more chunks than a statement holds."""
    chunks = [f"{number}".encode() for number in range(2500)]
    await write(world, b"first")
    await write(world, *chunks)
    await world.streams.close(RUN, NAME)
    assert await read_all(world) == [b"first", *chunks]
    assert (await world.streams.get_info(RUN, NAME)).tail_index == 2500


@pytest.mark.anyio
async def test_b168_write_multi_is_all_or_nothing(world: World) -> None:
    """A chunk that cannot be stored leaves none of its batch."""
    await write(world, b"kept")
    with pytest.raises(InvalidRequestError):
        await world.streams.write_multi(RUN, NAME, [b"a", 7, b"b"])  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError):
        await write(world, "a", "no text: \ud800")
    limit = world.backend.capabilities.max_chunk_bytes
    if limit is not None:
        with pytest.raises(PayloadTooLargeError) as caught:
            await world.streams.write_multi(RUN, NAME, [b"a", bytes(limit + 1), b"b"])
        assert caught.value.status == 413
    await world.streams.close(RUN, NAME)
    with pytest.raises(StreamClosedError):
        await write(world, b"a", b"b")
    assert await read_all(world) == [b"kept"]


@pytest.mark.anyio
async def test_b168_empty_write_multi_does_nothing(world: World) -> None:
    """No stream comes of it, and a closed one does not mind."""
    await world.streams.write_multi(RUN, NAME, [])
    assert await world.streams.list(RUN) == []
    await world.streams.close(RUN, NAME)
    await world.streams.write_multi(RUN, NAME, [])
    assert (await world.streams.get_info(RUN, NAME)).tail_index == -1


@pytest.mark.anyio
async def test_b169_close_is_idempotent(world: World, rival: World) -> None:
    """Again and from elsewhere: no error, no chunk."""
    await write(world, b"a")
    await world.streams.close(RUN, NAME)
    await world.streams.close(RUN, NAME)
    await rival.streams.close(RUN, NAME)
    await asyncio.gather(*(one.streams.close(RUN, NAME) for one in (world, rival) * 4))
    assert await read_all(rival) == [b"a"]
    page = await world.streams.get_chunks(RUN, NAME)
    assert [chunk.index for chunk in page.data] == [0]


@pytest.mark.anyio
async def test_b169_close_of_an_unknown_stream_makes_an_empty_one(world: World) -> None:
    """It is listed, closed, and reads as nothing."""
    await world.streams.close(RUN, NAME)
    assert await world.streams.list(RUN) == [NAME]
    info = await world.streams.get_info(RUN, NAME)
    assert (info.tail_index, info.done) == (-1, True)
    assert await read_all(world) == []


@pytest.mark.anyio
async def test_b170_write_after_close_is_refused(world: World, rival: World) -> None:
    """409, and deliberately no EntityConflictError."""
    await world.streams.close(RUN, NAME)
    for one in (world, rival):
        for write_one in (one.streams.write(RUN, NAME, b"a"), write(one, b"a", b"b")):
            with pytest.raises(WorldError) as caught:
                await write_one
            assert caught.value.status == 409
            assert isinstance(caught.value, StreamClosedError)
            assert not isinstance(caught.value, EntityConflictError)
    assert (await world.streams.get_info(RUN, NAME)).tail_index == -1


@pytest.mark.anyio
async def test_b170_racing_write_and_close_agree(world: World, rival: World) -> None:
    """A write that succeeded is read; one that was refused is not."""
    for number in range(10):
        name = f"stream_{number}"
        outcomes = await asyncio.gather(
            write(world, b"a", name=name),
            rival.streams.close(RUN, name),
            write(rival, b"b", name=name),
            return_exceptions=True,
        )
        written = [
            chunk
            for chunk, outcome in ((b"a", outcomes[0]), (b"b", outcomes[2]))
            if outcome is None
        ]
        assert all(isinstance(one, StreamClosedError | None) for one in outcomes)
        assert sorted(await read_all(world, name=name)) == written


@pytest.mark.anyio
async def test_b175_empty_chunks_count_but_are_not_yielded(world: World) -> None:
    """In index, info and pages they are there; a live read passes over them."""
    await write(world, b"", b"a", b"", b"", b"b", b"")
    await world.streams.close(RUN, NAME)
    info = await world.streams.get_info(RUN, NAME)
    assert (info.tail_index, info.done) == (5, True)
    page = await world.streams.get_chunks(RUN, NAME)
    assert [chunk.data for chunk in page.data] == [b"", b"a", b"", b"", b"b", b""]
    assert await read_all(world) == [b"a", b"b"]
    assert await read_all(world, 2) == [b"b"]
    assert await read_all(world, -1) == []


@pytest.mark.anyio
async def test_b178_snapshot_pages(world: World) -> None:
    """Indices, has_more, done and the cursor, page by page."""
    await write(world, b"0", b"1", b"", b"3", b"4")
    first = await world.streams.get_chunks(RUN, NAME, limit=2)
    assert [(chunk.index, chunk.data) for chunk in first.data] == [(0, b"0"), (1, b"1")]
    assert (first.has_more, first.done) == (True, False)
    assert first.cursor is not None
    assert json.loads(base64.b64decode(first.cursor)) == {"i": 2}
    second = await world.streams.get_chunks(RUN, NAME, limit=2, cursor=first.cursor)
    assert [chunk.index for chunk in second.data] == [2, 3]
    third = await world.streams.get_chunks(RUN, NAME, limit=2, cursor=second.cursor)
    assert [chunk.index for chunk in third.data] == [4]
    assert (third.has_more, third.done, third.cursor) == (False, False, None)
    await world.streams.close(RUN, NAME)
    assert (await world.streams.get_chunks(RUN, NAME, limit=2)).done is False
    again = await world.streams.get_chunks(RUN, NAME, limit=2, cursor=second.cursor)
    assert ([chunk.index for chunk in again.data], again.done) == ([4], True)
    exact = await world.streams.get_chunks(RUN, NAME, limit=5)
    assert (len(exact.data), exact.has_more, exact.done, exact.cursor) == (5, False, True, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "cursor",
    ["", "garbage", "e30=", base64.b64encode(b'{"i": -1}').decode(), "bnVsbA==", "\U0001f30d"],
)
async def test_b178_unreadable_cursor_starts_again(world: World, cursor: str) -> None:
    """No error: the page begins at 0."""
    await write(world, b"0", b"1")
    page = await world.streams.get_chunks(RUN, NAME, cursor=cursor)
    assert [chunk.index for chunk in page.data] == [0, 1]


@pytest.mark.anyio
async def test_b178_limit_is_clamped(world: World) -> None:
    """Default 100, at most 1000; a cursor beyond the end gives an empty page."""
    await write(world, *[b"x"] * 1001)
    for limit, count in ((None, 100), (0, 100), (-1, 100), (7, 7), (1000, 1000), (5000, 1000)):
        page = await world.streams.get_chunks(RUN, NAME, limit=limit)
        assert (len(page.data), page.has_more) == (count, True)
    beyond = base64.b64encode(b'{"i": 5000}').decode()
    page = await world.streams.get_chunks(RUN, NAME, cursor=beyond)
    assert (page.data, page.has_more, page.done, page.cursor) == ((), False, False, None)


@pytest.mark.anyio
async def test_b178_pages_of_an_unknown_stream(world: World) -> None:
    """Empty, not done, and nothing is created."""
    page = await world.streams.get_chunks(RUN, NAME)
    assert (page.data, page.has_more, page.done, page.cursor) == ((), False, False, None)
    assert await world.streams.list(RUN) == []


@pytest.mark.anyio
async def test_b179_info(world: World, rival: World) -> None:
    """−1 and open, then n−1, then closed."""

    async def info() -> tuple[int, bool]:
        found = await rival.streams.get_info(RUN, NAME)
        return found.tail_index, found.done

    assert await info() == (-1, False)
    await write(world, b"0")
    assert await info() == (0, False)
    await write(world, b"1", b"2")
    assert await info() == (2, False)
    await world.streams.close(RUN, NAME)
    assert await info() == (2, True)


@pytest.mark.anyio
async def test_b180_streams_of_a_run(world: World, clock: ManualClock) -> None:
    """Each once, by first write and then by name; unknown run: none."""
    for name in ("b", "c", "a"):
        await write(world, b"1", name=name)
        clock.advance(1)
    await write(world, b"2", name="b")
    await world.streams.close(RUN, "c")
    await world.streams.close(RUN, "0")
    await write(world, b"1", name="other", run_id="wrun_other")
    assert await world.streams.list(RUN) == ["b", "c", "a", "0"]
    assert await world.streams.list("wrun_other") == ["other"]
    assert await world.streams.list("wrun_none") == []


@pytest.mark.anyio
async def test_b180_same_instant_is_ordered_by_name(world: World) -> None:
    """First writes of one millisecond: by name."""
    for name in ("b", "c", "a"):
        await write(world, b"1", name=name)
    assert await world.streams.list(RUN) == ["a", "b", "c"]


@pytest.mark.anyio
async def test_b180_same_name_in_two_runs_is_two_streams(world: World) -> None:
    """Run and name together are the stream."""
    await write(world, b"one", run_id="wrun_1")
    await write(world, b"two", run_id="wrun_2")
    await world.streams.close("wrun_1", NAME)
    await write(world, b"more", run_id="wrun_2")
    await world.streams.close("wrun_2", NAME)
    assert await read_all(world, run_id="wrun_1") == [b"one"]
    assert await read_all(world, run_id="wrun_2") == [b"two", b"more"]


@pytest.mark.anyio
@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 513])
async def test_b180_unusable_names_are_refused(world: World, bad: str) -> None:
    """Run ids and stream names are 1 to 512 characters without NUL."""
    for run_id, name in ((bad, NAME), (RUN, bad)):
        with pytest.raises(InvalidRequestError):
            await world.streams.write(run_id, name, b"a")
        with pytest.raises(InvalidRequestError):
            await world.streams.close(run_id, name)
        with pytest.raises(InvalidRequestError):
            await world.streams.get_info(run_id, name)
        with pytest.raises(InvalidRequestError):
            world.streams.get(run_id, name)
