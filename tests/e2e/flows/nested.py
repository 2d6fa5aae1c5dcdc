"""Fan-out inside fan-out, and payloads that the SDK compresses."""

from __future__ import annotations

import asyncio

from vercel.workflow import Workflows, start

from workflow_world import World

from .common import events_of, result_of

workflows = Workflows()

WIDTH, DEPTH = 6, 5
LONG = "the same words again and again " * 2_000


@workflows.step
async def leaf(branch: int, number: int) -> int:
    return branch * 100 + number


@workflows.step
async def gathered(values: list[int]) -> int:
    return sum(values)


@workflows.step
async def louder(text: str) -> str:
    return text.upper()


async def branch_of(branch: int) -> int:
    leaves = await asyncio.gather(*(leaf(branch, number) for number in range(DEPTH)))
    return await gathered(leaves)


@workflows.workflow
async def nested_fan_out() -> list[int]:
    return list(await asyncio.gather(*(branch_of(branch) for branch in range(WIDTH))))


@workflows.workflow
async def loud(text: str) -> str:
    return await louder(text)


async def scenario(world: World) -> None:
    run = await start(nested_fan_out)
    expected = [sum(branch * 100 + number for number in range(DEPTH)) for branch in range(WIDTH)]
    assert await result_of(world, run) == expected
    for event_type in ("step_created", "step_started", "step_completed"):
        assert len(await events_of(world, run, event_type)) == WIDTH * (DEPTH + 1)

    run = await start(loud, LONG)
    assert await result_of(world, run) == LONG.upper()
    stored = await world.runs.get(run.run_id)
    for payload in (stored.input, stored.output):
        assert isinstance(payload, bytes)
        assert payload.startswith(b"zstd")
        assert len(payload) < len(LONG) / 10, "stored as the SDK compressed it"
