"""Slots: a message at a time in each, from its claim to its settlement (spec 4.5, 4.15)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from typing import Any, Final

from ..api.context import Context, Delivery
from ..core import delivery
from ..core.delivery import Limits
from ..core.entities import Message
from .attempt import Attempt, say_lost
from .held import Held, lease_of

logger = logging.getLogger("workflow_world.worker")

_SUSPECT_DELAY_S: Final = 0.25
_CANCELLED_S: Final = 1.0
"""How long a handler may take to end after it was cancelled."""


class Slots:
    """``concurrency`` of them, on the event loop and with the context variables of the caller.

    ``freed`` is called when a handler is over, before its settlement.
    """

    def __init__(
        self,
        context: Context,
        held: Held,
        attempt: Attempt,
        limits: Limits,
        freed: Callable[[], None],
    ) -> None:
        self._context, self._held, self._attempt, self._freed = context, held, attempt, freed
        self._limits, self._variables = limits, copy_context()
        self._delivering: dict[asyncio.Task[None], Message] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._suspect: str | None = None
        self._alone_until = 0.0

    @property
    def free(self) -> int:
        return self._context.settings.concurrency - len(self._delivering)

    async def fill(self, messages: Sequence[Message]) -> None:
        """Deliver what was claimed, but at most one message that may end this process."""
        for message in await self._one_suspect(messages):
            self.deliver(message)

    def deliver(self, message: Message) -> None:
        # Whoever enqueued the message is not to be seen from its handler.
        task = asyncio.create_task(self._work(message), context=self._variables.copy())
        self._settling.add(task)
        self._delivering[task] = message
        task.add_done_callback(self._done)

    async def drain(self, grace_s: float) -> None:
        """Wait for the handlers, give back the messages of those that are too late."""
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning("Giving back %d messages at shutdown", len(late))
                await self._leave_behind()
        await finished(list(self._settling))

    async def _leave_behind(self) -> None:
        """Handlers that were cancelled and go on all the same keep nothing from others."""
        if self._delivering:
            await asyncio.wait(self._delivering, timeout=_CANCELLED_S)
        if not self._delivering:
            return
        messages = list(self._delivering.values())
        ids = ", ".join(message.message_id for message in messages)
        logger.error("Handlers go on although they were cancelled, of messages %s", ids)
        self._settling.difference_update(self._delivering)
        self._held.lose(messages)
        await self._held.give_back(messages)

    async def _one_suspect(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without a second one that may end this process: should it do so, then
        only its own delivery is lost. The others are given back before it begins; but one that
        takes long does not hold up all of them."""
        chosen: list[Message] = []
        others: list[Message] = []
        now = time.monotonic()
        for message in messages:
            if not delivery.is_suspect(message, self._limits):
                chosen.append(message)
            elif self._suspect is None or now >= self._alone_until:
                self._suspect = message.message_id
                self._alone_until = now + self._context.settings.lock_duration_ms / 1000
                chosen.append(message)
            else:
                others.append(message)
        self._held.drop(others)
        await self._held.give_back(others, delay_s=_SUSPECT_DELAY_S)
        return chosen

    async def _work(self, message: Message) -> None:
        """Deliver and settle one message; its lease is held until then."""
        current, lease = asyncio.current_task(), lease_of(message)
        assert current is not None
        try:
            try:
                if await self._held.was_lost(lease):
                    say_lost(message, "its handler did not begin")
                    return
                with Delivery(self._context, lease):
                    settlement = await self._attempt.deliver(message)
            finally:
                self._delivering.pop(current, None)
                self._freed()
            if self._held.is_lost(lease):
                say_lost(message)
            else:
                await self._attempt.settle(message, settlement)
        finally:
            if self._suspect == message.message_id:
                self._suspect = None
            self._held.drop([message])

    def _done(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        self._delivering.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A delivery ended with an error of its own", exc_info=error)


async def finished(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for all of them, whatever they end with."""
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
