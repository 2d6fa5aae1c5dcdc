"""News of other processes: by change streams, without them, and when they are cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from postgres.proxy import Proxy
from servers import mongodb

from workflow_world import World, create_world

from .helpers import PATIENCE_S, QUEUE, port_of, through

pytestmark = pytest.mark.anyio


@pytest.fixture
def streaming_url(streaming: mongodb.Server) -> Iterator[str]:
    with streaming.database() as found:
        yield found


@pytest.fixture
def before_streams(streaming: mongodb.Server) -> Iterator[Proxy]:
    with Proxy(port_of(streaming.address), commit=b"$changeStream\0") as found:
        yield found


async def hears(
    listening: World, speaking: World, heard: asyncio.Queue[object], number: int
) -> float:
    """A message and a chunk of the other process arrive. Returns: after how many seconds."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    stream = listening.streams.get("wrun_1", f"out{number}")
    first = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(PATIENCE_S):
        await speaking.queue(QUEUE, {"n": number})
        assert await heard.get() == {"n": number}
        await speaking.streams.write("wrun_1", f"out{number}", b"x")
        assert await first == b"x"
    return loop.time() - begun


async def listening_at(url: str, **options: bool) -> tuple[World, asyncio.Queue[object]]:
    world = create_world(url, shared=False, **options)
    heard = asyncio.Queue[object]()

    async def handler(message: object, **about: object) -> None:
        heard.put_nowait(message)

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    return world, heard


@pytest.fixture
async def speaking(streaming_url: str) -> AsyncIterator[World]:
    """It takes no messages."""
    world = create_world(streaming_url, shared=False)
    yield world
    await world.close()


@pytest.mark.parametrize("wanted", [True, False])
async def test_b198_change_streams_on_and_off(
    streaming_url: str, speaking: World, wanted: bool, before_streams: Proxy
) -> None:
    """Whether one is asked for is seen by the proxy."""
    before_streams.cut("late")
    before_streams.release.set()
    url = through(before_streams, streaming_url)
    listening, heard = await listening_at(url, use_change_streams=wanted)
    async with listening:
        for number in range(5):
            await hears(listening, speaking, heard, number)
        assert bool(before_streams.pending) != wanted


async def test_b198_where_the_server_has_none(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "workflow_world.mongodb"):
        listening, heard = await listening_at(url, use_change_streams=True)
        speaking = create_world(url, shared=False)
        async with listening:
            for number in range(3):
                await hears(listening, speaking, heard, number)
        await speaking.close()
    said = [one.message for one in caplog.records if "change stream" in one.message]
    assert len(said) == 2, "one for each World"


async def test_b198_a_stream_that_is_cut_again_and_again(
    streaming_url: str, speaking: World, before_streams: Proxy
) -> None:
    listening, heard = await listening_at(through(before_streams, streaming_url))
    async with listening:
        for number in range(8):
            if number % 2:
                before_streams.cut_all()
            await hears(listening, speaking, heard, number)
        before_streams.cut("before", 2)
        before_streams.reset_all()
        await hears(listening, speaking, heard, 8)


async def test_b198_a_stream_whose_server_goes_and_comes(
    streaming_url: str,
    speaking: World,
    streaming: mongodb.Server,
    before_streams: Proxy,
    nowhere: int,
) -> None:
    listening, heard = await listening_at(through(before_streams, streaming_url))
    async with listening:
        await hears(listening, speaking, heard, 0)
        before_streams.turn_to(nowhere)
        before_streams.cut_all()
        await asyncio.sleep(1)
        before_streams.turn_to(port_of(streaming.address))
        for number in range(1, 4):
            await hears(listening, speaking, heard, number)
