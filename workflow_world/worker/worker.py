"""The worker: starts to claim and deliver, drains on stop (spec 4.5, 4.15)."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from datetime import timedelta

from ..api.context import Context
from ..api.messages import Messages
from ..backend import NewMessage, Presence
from ..core.delivery import Limits
from ..errors import WorldClosedError
from ..signals import QUEUE
from .claims import Claims
from .deliver import Deliverer
from .handlers import Handlers
from .held import Held
from .slots import finished
from .upkeep import Upkeep

logger = logging.getLogger("workflow_world.worker")


class Worker:
    """At most ``concurrency`` messages at a time, on the event loop that called ``start``."""

    def __init__(self, context: Context, messages: Messages, handlers: Handlers) -> None:
        self._context, self._settings, self._handlers = context, context.settings, handlers
        self._upkeep = Upkeep(context, messages, lambda: self._deliverer.prefixes)
        self._limits = Limits(
            max_deliveries=self._settings.max_deliveries, max_delay_s=self._settings.max_delay_s
        )
        self._started = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._reset()

    def _reset(self) -> None:
        """As before the first start: of an earlier process or event loop nothing goes on."""
        self._deliverer = Deliverer(self._settings, self._handlers)
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._presence: Presence | None = None
        self._held: Held | None = None
        self._claims: Claims | None = None

    def wake(self) -> None:
        """Claim now: a slot, a handler or a message is new. From any thread."""
        if self._started:
            self._context.backend.notifier.notify(QUEUE)

    async def start(self) -> None:
        if self._context.closed:
            raise WorldClosedError()
        if self._started and not self._is_orphaned:
            return
        if self._home is not None:
            self._let_go()
            self._reset()
        self._started = True
        self._home = os.getpid(), asyncio.get_running_loop()
        try:
            backend = await self._context.opened()
            self._presence = await backend.messages.enter()
            if count := await backend.messages.reap():
                logger.warning("Freed %d messages whose lease had expired", count)
        except BaseException:
            self._started = False
            if self._presence is not None:
                self._presence.close()
                self._presence = None
            raise
        if self._stopping.is_set():
            self._presence.close()
            return
        lease = timedelta(milliseconds=self._settings.lock_duration_ms)
        self._held = held = Held(backend.messages, lease, self._context.clock)
        self._claims = claims = Claims(
            self._context, backend, self._deliverer, held, self._limits, self._stopping
        )
        held.start()
        self._tasks = [
            asyncio.create_task(self._claim(claims)),
            asyncio.create_task(self._upkeep.run(self._stopping, held.renew)),
        ]

    async def _claim(self, claims: Claims) -> None:
        try:
            await claims.run()
        except asyncio.CancelledError:
            # The event loop ends without ``close``: nothing of the worker must stay behind.
            logger.warning("The event loop ended before this World was closed: its worker stopped")
            self._let_go()
            raise

    @property
    def _is_orphaned(self) -> bool:
        """Its process was another one, or its event loop is gone."""
        if self._home is None:
            return False
        process, loop = self._home
        return process != os.getpid() or loop.is_closed()

    def _let_go(self) -> None:
        """Without the event loop that the deliveries ran on: their leases end by themselves."""
        self._started = False
        if not self._is_orphaned:
            self._stopping.set()
        if self._claims is not None:
            self._claims.close()
        if self._held is not None:
            self._held.cease()
        if self._presence is not None:
            self._presence.close()

    async def stop(self) -> None:
        """Stop claiming, wait for the deliveries, give the rest back. Never raises a WorldError.

        On another event loop than that of ``start``: waits until it was done there.
        """
        if not self._started or self._home is None:
            return
        process, loop = self._home
        if loop is asyncio.get_running_loop():
            await self._stop()
        elif process == os.getpid() and loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._stop(), loop))
        else:
            self._let_go()

    async def _stop(self) -> None:
        self._stopping.set()
        now = asyncio.get_running_loop().time
        until = now() + self._settings.shutdown_timeout_ms / 1000
        claims, held = self._claims, self._held
        if claims is not None and held is not None:
            claims.close()
            await finished(self._tasks)
            await claims.enqueued()
            await claims.slots.drain(max(0, until - now()))
            await held.stop()
        if self._presence is not None:
            self._presence.close()
        await self._deliverer.close()
        self._started = False

    async def enqueue(self, message: NewMessage) -> str:
        """Store a message; a free slot of this worker takes it in the same transaction.

        That spares a claim, and the wait for it. See ``MessageStore.enqueue_and_claim``.
        """
        backend = await self._context.opened()
        sender = self._context.sender
        if sender is not None:
            message = replace(message, sender=sender)
        if self._claims is not None and self._claims.has_room_for(message):
            return await self._claims.enqueue(message)
        return await backend.messages.enqueue(message)
