"""What several scenarios need. The sandbox imports this too: keep it free of side effects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import vercel.workflow as sdk
from vercel.workflow import Run

import workflow_world
from workflow_world import Event, World

E = TypeVar("E", bound=Exception)


async def result_of(world: World, run: Run[Any]) -> Any:
    """The run's result, without the SDK's one-second poll."""
    await world.runs.wait(run.run_id, timeout=45)
    return await run.return_value()


async def events_of(world: World, run: Run[Any], event_type: str | None = None) -> list[Event]:
    """The whole log, or its events of one type; positions are dense, whoever wrote."""
    log: list[Event] = []
    cursor = None
    while True:
        page = await world.events.list(run.run_id, cursor=cursor)
        log += page.data
        cursor = page.cursor
        if not page.has_more:
            break
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    return [event for event in log if event_type in (None, event.event_type)]


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer of ``check``."""
    while True:
        if answer := await check():
            return answer
        await asyncio.sleep(0.01)


@contextmanager
def refused(kind: type[E], phrase: str = "") -> Iterator[list[E]]:
    """The block must raise ``kind``; the error is in the list afterwards."""
    caught: list[E] = []
    try:
        yield caught
    except kind as error:
        if phrase not in str(error):
            raise
        caught.append(error)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


async def hook_is_live(token: str) -> None:
    """Until a run has made its hook. A missing one is an error of the SDK's and of ours."""

    async def live() -> bool:
        try:
            await sdk.get_hook_by_token(token)
        except sdk.HookNotFoundError as error:
            if error.token == token and isinstance(error, workflow_world.HookNotFoundError):
                return False
            raise
        return True

    await until(live)
