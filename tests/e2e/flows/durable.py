"""Workflows whose steps leave a trace outside the database, for processes that get killed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from vercel.workflow import (
    BaseHook,
    RetryableError,
    Workflows,
    WorkflowStreamWriter,
    get_step_metadata,
    get_writable,
    sleep,
)

WORDS = 20

workflows = Workflows()


@dataclass
class Approval(BaseHook):
    value: int


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


@workflows.step(max_retries=100)
async def talk(out: WorkflowStreamWriter[bytes]) -> None:
    attempt = leave_a_trace()
    for number in range(WORDS):
        await out.write(b"%d %d" % (attempt, number))
        await asyncio.sleep(0.01)


@workflows.step(max_retries=100)
async def hush(out: WorkflowStreamWriter[bytes]) -> None:
    leave_a_trace()
    await out.close()


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


@workflows.workflow
async def approval(value: int) -> int:
    hook = Approval.wait(token=token_of(await double(value)))
    return await double((await hook).value)


@workflows.workflow
async def story(value: int) -> int:
    await talk(get_writable())
    await hush(get_writable())
    return value


def token_of(doubled: int) -> str:
    return f"approval {doubled}"


def is_whole(words: list[bytes]) -> bool:
    """Each execution of ``talk`` wrote its words in order, and the last one all of them."""
    said: dict[int, list[int]] = {}
    for word in words:
        attempt, number = map(int, word.split())
        assert attempt == max([*said, attempt]), "an execution that was cut off wrote once more"
        said.setdefault(attempt, []).append(number)
    return all(numbers == [*range(len(numbers))] for numbers in said.values()) and (
        len(said[max(said)]) == WORDS
    )


EXPECTED = {
    chain: lambda value: value * 2**8,
    fan_out: lambda value: sum(2 * (value + number) for number in range(12)),
    naps: lambda value: value * 8,
    retries: lambda value: 2 * (2 * value + 1),
    approval: lambda value: 2 * (value + 7),
    story: lambda value: value,
}
