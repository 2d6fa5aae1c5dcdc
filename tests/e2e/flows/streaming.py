"""Streams: written by a step, read live; typed; several per run; snapshots."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from pydantic import BaseModel
from vercel.workflow import Run, Workflows, WorkflowStreamWriter, get_writable, start

from workflow_world import World

from .common import result_of

workflows = Workflows()
received = asyncio.Event()


class Token(BaseModel):
    text: str
    index: int


@workflows.step
async def talk(count: int) -> None:
    async with get_writable(type=Token) as out:
        for index in range(count):
            await out.write(Token(text=f"word {index}", index=index))
            if index == 0:
                # The reader has the first chunk while this step still runs: it reads live.
                await received.wait()


@workflows.step
async def log(out: WorkflowStreamWriter[bytes], lines: int) -> None:
    for index in range(lines):
        await out.write(b"line %d" % index)
    await out.close()


@workflows.workflow
async def chatter(count: int) -> str:
    await talk(count)
    await log(get_writable(namespace="log"), 3)
    return "said"


async def scenario(world: World) -> None:
    run = await start(chatter, 300)
    heard = await asyncio.gather(listen(run, 0), listen(run, 0))
    assert heard[0] == heard[1] == [Token(text=f"word {n}", index=n) for n in range(300)]
    assert await result_of(world, run) == "said"

    assert [token.index for token in await listen(run, -2)] == [298, 299]
    assert [token.index for token in await listen(run, 297)] == [297, 298, 299]
    lines = [chunk async for chunk in run.readable_bytes(namespace="log")]
    assert lines == [b"line 0", b"line 1", b"line 2"]
    info = await run.stream_info()
    assert (info.tail_index, info.done) == (299, True)
    missing = await run.stream_info(namespace="other")
    assert (missing.tail_index, missing.done) == (-1, False)
    assert len(await run.list_streams()) == 2


async def listen(run: Run[str], start_index: int) -> list[Token]:
    tokens: list[Token] = []
    async with aclosing(run.readable(type=Token, start_index=start_index)) as stream:
        async for token in stream:
            tokens.append(token)
            received.set()
    return tokens
