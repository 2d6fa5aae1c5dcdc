"""A workflow that is known; import it once a World is installed."""

from __future__ import annotations

from vercel.workflow import Workflows

workflows = Workflows()


@workflows.step
async def shout(text: str) -> str:
    return text.upper()


@workflows.workflow
async def good(text: str) -> str:
    return await shout(text)
