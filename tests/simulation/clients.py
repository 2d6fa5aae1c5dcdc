"""Clients: they start runs, resume hooks, cancel, read streams; each insists until it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from workflow_world import (
    BackendError,
    EntityConflictError,
    HookNotFoundError,
    NewEvent,
    RunExpiredError,
    RunNotFoundError,
    World,
)

from .book import Book
from .faulty import Faults
from .flow import FLOW, NAME, PING, STREAM
from .plan import PingPlan, RunPlan


class Clients:
    """All on one World of a process of their own, which delivers nothing."""

    def __init__(self, world: World, faults: Faults, book: Book) -> None:
        self._world, self._faults, self._book = world, faults, book

    async def start(self, plan: RunPlan) -> None:
        """Create the run and send its first message; a client that forgets leaves that out."""
        await asyncio.sleep(plan.starts_after)
        with suppress(EntityConflictError):  # the answer to an earlier call was lost
            await self._insist(
                lambda: self._world.runs.create(
                    workflow_name=NAME, run_id=plan.run_id, input=plan.program
                )
            )
        self._book.created.add(plan.run_id)
        if not plan.forgets:
            await self._wake(plan.run_id)

    async def resume(self, plan: RunPlan, hook_id: str, after: float) -> None:
        """Resume the hook, once its token is this hook's; give up when its run has ended."""
        token = plan.tokens[hook_id]
        while True:
            try:
                hook = await self._insist(lambda: self._world.hooks.get_by_token(token))
                if (hook.run_id, hook.hook_id) == (plan.run_id, hook_id):
                    break
            except HookNotFoundError:
                pass
            if await self._is_over(plan.run_id):
                return
            await asyncio.sleep(1)
        await asyncio.sleep(after)
        event = NewEvent(
            event_type="hook_received", correlation_id=hook_id, event_data={"payload": hook_id}
        )
        resume_id = f"resume_{hook_id}"
        try:
            await self._insist(
                lambda: self._world.events.create(plan.run_id, event, resume_id=resume_id)
            )
        except (HookNotFoundError, EntityConflictError, RunExpiredError):
            return  # the run ended meanwhile
        self._book.resumed.add((plan.run_id, hook_id))
        if not plan.forgets:
            await self._wake(plan.run_id)

    async def cancel(self, plan: RunPlan, after: float) -> None:
        await asyncio.sleep(plan.starts_after + after)
        try:
            await self._insist(lambda: self._world.runs.cancel(plan.run_id))
        except (RunNotFoundError, EntityConflictError):
            return
        self._book.cancelled.add(plan.run_id)

    async def read(self, plan: RunPlan) -> None:
        """Read the stream live; after an outage go on behind the last chunk seen."""
        seen = self._book.read.setdefault(plan.run_id, [])
        while True:
            try:
                stream = self._world.streams.get(plan.run_id, STREAM, len(seen))
                async with aclosing(stream):
                    async for chunk in stream:
                        seen.append(chunk)
                return
            except BackendError:
                await asyncio.sleep(0.5)

    async def wait(self, plan: RunPlan) -> None:
        while True:
            try:
                run = await self._world.runs.wait(plan.run_id)
            except (BackendError, RunNotFoundError):
                await asyncio.sleep(1)
            else:
                self._book.ended[plan.run_id] = run.status
                return

    async def ping(self, plan: PingPlan) -> None:
        await asyncio.sleep(plan.starts_after)
        body = {"ping": plan.name, "fails": plan.fails}
        self._book.pings[plan.name] = await self._insist(
            lambda: self._world.queue(
                PING, body, idempotency_key=plan.name, delay_seconds=plan.delay
            )
        )

    async def _wake(self, run_id: str) -> None:
        await self._insist(lambda: self._world.queue(FLOW, {"runId": run_id}))

    async def _is_over(self, run_id: str) -> bool:
        try:
            run = await self._insist(lambda: self._world.runs.get(run_id))
        except RunNotFoundError:
            return False
        return bool(run.is_final)

    async def _insist(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Until it is answered. Now and then the call is cancelled on its way."""
        faults = self._faults
        while True:
            patience = None
            if faults.happens(faults.chances.cancelled):
                patience = faults.random.choice((0, 0.0001, 0.01, 0.3))
            try:
                async with asyncio.timeout(patience):
                    return await action()
            except (BackendError, TimeoutError):
                await asyncio.sleep(faults.random.uniform(0, 1))
