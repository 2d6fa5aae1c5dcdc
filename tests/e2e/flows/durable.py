"""Workflows whose steps leave a trace outside the database, for processes that get killed."""

from __future__ import annotations

import asyncio
import os

from vercel.workflow import RetryableError, Workflows, get_step_metadata, sleep

workflows = Workflows()


def leave_a_trace() -> int:
    """One line per execution of a step's body. Returns: the attempt."""
    step = get_step_metadata()
    path = os.path.join(os.environ["TRACES"], step.run_id)
    trace = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(trace, f"{step.step_id}\n".encode())
    os.close(trace)
    return step.attempt


@workflows.step(max_retries=100)
async def double(value: int) -> int:
    leave_a_trace()
    await asyncio.sleep(0.1)
    return 2 * value


@workflows.step(max_retries=100)
async def flaky(value: int) -> int:
    if leave_a_trace() <= 2:
        raise RetryableError("not yet", retry_after=1)
    return value + 1


@workflows.workflow
async def chain(value: int) -> int:
    for _ in range(8):
        value = await double(value)
    return value


@workflows.workflow
async def fan_out(value: int) -> int:
    return sum(await asyncio.gather(*(double(value + number) for number in range(12))))


@workflows.workflow
async def naps(value: int) -> int:
    value = await double(value)
    await sleep(1)
    value, _ = await asyncio.gather(double(value), sleep(1))
    return await double(value)


@workflows.workflow
async def retries(value: int) -> int:
    return await double(await flaky(await double(value)))


EXPECTED = {
    chain: lambda value: value * 2**8,
    fan_out: lambda value: sum(2 * (value + number) for number in range(12)),
    naps: lambda value: value * 8,
    retries: lambda value: 2 * (2 * value + 1),
}
