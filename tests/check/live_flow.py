"""A workflow with a bit of everything. The sandbox imports this too: no side effects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from vercel.workflow import BaseHook, RetryableError, Workflows, get_step_metadata, sleep

workflows = Workflows()


@dataclass
class Word(BaseHook):
    text: str


@workflows.step
async def shout(word: str) -> str:
    return word.upper()


@workflows.step
async def flaky() -> int:
    attempt = get_step_metadata().attempt
    if attempt < 2:
        raise RetryableError("once more", retry_after=0)
    return attempt


@workflows.workflow
async def everything(token: str) -> list[str]:
    words = [await shout("first")]
    async with Word.wait(token=token) as hook:
        async for word in hook:
            words.append(word.text)
            break
    words += await asyncio.gather(*(shout(f"w{number}") for number in range(6)))
    await asyncio.gather(sleep(0.05), flaky())
    return [*words, await shout("last")]
