"""Workflows that await the results of others, more than the worker has slots; encrypted, too."""

from __future__ import annotations

import hashlib

from vercel.workflow import FatalError, Workflows, get_run, sleep, start

import workflow_world
from workflow_world import World

from .common import events_of, result_of, until

SLOTS, PARENTS = 2, 5


def key_of(run_id: str, *, deployment_id: str | None = None) -> bytes:
    key = f"{run_id} {deployment_id}".encode()
    return hashlib.blake2b(key, key=b"master", digest_size=32).digest()


world = workflow_world.install(run_key=key_of, concurrency=SLOTS)
workflows = Workflows()


@workflows.step
async def halve(number: int) -> int:
    if number % 2:
        raise FatalError(f"{number} is odd")
    return number // 2


@workflows.workflow
async def child(number: int) -> int:
    await sleep(1)
    return await halve(number)


@workflows.workflow
async def endless() -> None:
    await sleep("1h")


@workflows.step
async def begin(number: int) -> str:
    return (await start(child, number)).run_id


@workflows.workflow
async def parent(number: int) -> list[object]:
    run_id = await begin(number)
    try:
        return [run_id, await get_run(run_id).return_value()]
    except Exception as error:
        return [run_id, str(error)]


@workflows.workflow
async def grandparent(run_id: str) -> list[object]:
    return [await get_run(run_id).status(), await get_run(run_id).return_value()]


async def scenario(world: World) -> None:
    runs = [await start(parent, 2 * number) for number in range(PARENTS)]
    above = await start(grandparent, runs[-1].run_id)
    results = [await result_of(world, run) for run in runs]
    assert [result for _, result in results] == [*range(PARENTS)]
    status, result = await result_of(world, above)
    assert (status in ("pending", "running"), result) == (True, results[-1])
    for run, (run_id, _) in zip(runs, results, strict=True):
        ended = (await world.runs.get(run_id)).completed_at
        starts = await events_of(world, run, "step_started")
        assert len(starts) == 2
        assert ended is not None
        assert starts[1].created_at >= ended, "it was not begun before there was a result"

    run = await start(parent, 3)
    assert "3 is odd" in (await result_of(world, run))[1]

    # Its own end is an end of the waiting, too.
    idle = await start(endless)
    run = await start(grandparent, idle.run_id)
    await until(lambda: events_of(world, run, "step_completed"))
    await run.terminate()

    async def is_quiet() -> bool:
        messages = await world.messages.list(run_id=run.run_id)
        return all(message.status == "completed" for message in messages.data)

    await until(is_quiet)
