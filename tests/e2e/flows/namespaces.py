"""Two registries in one process, one of them with a queue namespace."""

from __future__ import annotations

from dataclasses import dataclass

from vercel.workflow import BaseHook, Workflows, start

from workflow_world import World

from .common import hook_is_live, result_of

plain = Workflows()
blue = Workflows(namespace="blue")


@dataclass
class Go(BaseHook):
    word: str


@plain.step
async def shout(word: str) -> str:
    return word.upper()


@blue.step
async def whisper(word: str) -> str:
    return word.lower()


@plain.workflow
async def loud(word: str) -> str:
    return await shout(word)


@blue.workflow
async def quiet(token: str) -> str:
    go = await Go.wait(token=token)
    return await whisper(go.word)


async def scenario(world: World) -> None:
    runs = await start(loud, "Word"), await start(quiet, "go on")
    await hook_is_live("go on")
    await Go(word="Word").resume("go on")
    assert await result_of(world, runs[0]) == "WORD"
    assert await result_of(world, runs[1]) == "word"
    queues = {message.queue_name for message in (await world.messages.list()).data}
    assert {queue.partition("wkf")[0] for queue in queues} == {"__", "__blue_"}
