"""The workflows that the SDK level runs. A World must be set before this is imported."""

import asyncio

from vercel.workflow import Workflows

workflows = Workflows()


@workflows.step
async def double(number: int) -> int:
    return 2 * number


@workflows.workflow
async def in_sequence(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    return total


@workflows.workflow
async def fanned_out(count: int) -> int:
    return sum(await asyncio.gather(*[double(number) for number in range(count)]))
