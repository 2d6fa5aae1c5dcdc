"""Runs that share the SDK's sandbox, and are replayed in it in turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from vercel.workflow import BaseHook, RetryableError, SandboxPolicy, Workflows, sleep, start

from workflow_world import World

from .common import events_of, hook_is_live, result_of

RUNS = 30
workflows = Workflows(sandbox_policy=SandboxPolicy(share_sandboxes=True))
bodies: Counter[tuple[int, int]] = Counter()


@dataclass
class Word(BaseHook):
    text: str


@workflows.step
async def add(run: int, total: int, number: int) -> int:
    bodies[run, number] += 1
    if number == 1 and bodies[run, number] == 1:
        raise RetryableError("once more", retry_after="0s")
    return total + number


@workflows.workflow
async def mixed(run: int, count: int) -> tuple[int, int, str]:
    """In sequence, side by side, a sleep and a hook: each replay begins anew."""
    total = 0
    for number in range(count):
        total = await add(run, total, number)
    parallel = await asyncio.gather(*(add(run, run, 10 + number) for number in range(count)))
    await sleep(0.1)
    word = await Word.wait(token=f"word of {run}")
    return total, sum(parallel), word.text


async def resumed(run: int) -> None:
    await hook_is_live(f"word of {run}")
    await Word(text=f"hello {run}").resume(f"word of {run}")


async def scenario(world: World) -> None:
    started = await asyncio.gather(*(start(mixed, run, 4) for run in range(RUNS)))
    await asyncio.gather(*map(resumed, range(RUNS)))
    for run, one in enumerate(started):
        assert await result_of(world, one) == (6, 4 * run + 46, f"hello {run}")
        assert len(await events_of(world, one, "step_completed")) == 8
    numbers = (*range(4), *range(10, 14))
    assert bodies == {(run, n): 1 + (n == 1) for run in range(RUNS) for n in numbers}
