"""The worker: take free slots, claim for them, deliver, settle; drain on stop (spec 4.5, 4.15)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Generator, Iterable, Sequence
from contextvars import Context as ContextVars
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from ..api.context import Context, Delivery
from ..api.messages import Messages
from ..backend import Backend, Lease, NewMessage, Presence, Subscription, Taken
from ..core import delivery
from ..core.delivery import Limits
from ..core.entities import Message
from ..errors import WorldClosedError, WorldError
from ..signals import QUEUE
from .attempt import Attempt, say_lost
from .deliver import Deliverer
from .handlers import Handlers
from .lease import Heartbeat
from .settling import Settling
from .upkeep import Upkeep

logger = logging.getLogger("workflow_world.worker")

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_JITTER: Final = 0.2
_SUSPECT_DELAY_S: Final = 1.0
_CANCELLED_S: Final = 1.0
"""How long a handler may take to end after it was cancelled."""
_TURNS: Final = 2
"""Of the event loop: in one deliveries begin, in the next those that are over are settled."""


class Worker:
    """At most ``concurrency`` messages at a time, on the event loop that called ``start``."""

    def __init__(
        self, context: Context, messages: Messages, handlers: Handlers, *, deployment_id: str
    ) -> None:
        self._context, self._settings = context, context.settings
        self._deployment_id = deployment_id
        self._handlers = handlers
        self._upkeep = Upkeep(context, messages, lambda: self._deliverer.prefixes)
        self._lease = timedelta(milliseconds=self._settings.lock_duration_ms)
        self._limits = Limits(
            max_deliveries=self._settings.max_deliveries, max_delay_s=self._settings.max_delay_s
        )
        self._started = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._reset()

    def _reset(self) -> None:
        """As before the first start: of an earlier process or event loop nothing goes on."""
        self._deliverer = Deliverer(self._settings, self._handlers)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._variables: ContextVars | None = None
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._deliveries: set[asyncio.Task[None]] = set()
        self._delivering: dict[asyncio.Task[None], Message] = {}
        self._enqueuing: set[asyncio.Task[str]] = set()
        self._claiming = 0
        self._suspect: str | None = None
        self._saturated = self._busy = self._claim_is_due = self._overdue = False
        self._signal: Subscription | None = None
        self._heartbeat: Heartbeat | None = None
        self._attempt: Attempt | None = None
        self._presence: Presence | None = None

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
        self._loop, self._variables = asyncio.get_running_loop(), copy_context()
        self._signal = backend.notifier.subscribe(QUEUE)
        self._heartbeat = Heartbeat(backend.messages, self._lease, self._context.clock)
        self._attempt = Attempt(
            self._context, self._deliverer, Settling(backend.messages), self._limits
        )
        self._heartbeat.start()
        self._tasks = [
            asyncio.create_task(self._claim_loop(backend, self._signal)),
            asyncio.create_task(self._upkeep.run(self._stopping, self._renew)),
        ]

    @property
    def _is_orphaned(self) -> bool:
        """Its process was another one, or its event loop is gone."""
        if self._home is None:
            return False
        process, loop = self._home
        return process != os.getpid() or loop.is_closed()

    def _let_go(self) -> None:
        """Without the event loop that the deliveries ran on: their leases end by themselves."""
        self._started, self._loop = False, None
        if not self._is_orphaned:
            self._stopping.set()
        if self._signal is not None:
            self._signal.close()
        if self._heartbeat is not None:
            self._heartbeat.cease()
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
        if self._signal is not None:
            self._signal.close()
        now = asyncio.get_running_loop().time
        until = now() + self._settings.shutdown_timeout_ms / 1000
        await _finished([*self._tasks, *self._enqueuing])
        await self._drain(max(0, until - now()))
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.stop, self._lease.total_seconds())
        if self._presence is not None:
            self._presence.close()
        await self._deliverer.close()
        self._started, self._loop = False, None

    async def enqueue(self, message: NewMessage) -> str:
        """Store a message; a free slot of this worker takes it in the same transaction.

        That spares a claim, and the wait for it. See ``MessageStore.enqueue_and_claim``.
        """
        backend = await self._context.opened()
        sender = self._context.sender
        if sender is not None:
            message = replace(message, sender=sender)
        if not self._has_room_for(message):
            return await backend.messages.enqueue(message)
        # A task of its own: a caller that is cancelled must not leave a lease without a delivery.
        task = asyncio.create_task(self._enqueue(backend, message))
        self._enqueuing.add(task)
        task.add_done_callback(self._enqueued)
        return await asyncio.shield(task)

    def _enqueued(self, task: asyncio.Task[str]) -> None:
        self._enqueuing.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that was cancelled does not ask for it any more
        if self._saturated and self._free > 0:
            self._claim_now()

    def _has_room_for(self, message: NewMessage) -> bool:
        if self._loop is not asyncio.get_running_loop() or self._stopping.is_set():
            return False
        if self._saturated or self._free <= 0 or message.delay or message.available_at:
            return False
        prefixes = self._deliverer.prefixes
        return prefixes is None or message.queue_name.startswith(prefixes)

    @property
    def _free(self) -> int:
        """Slots that nobody has, nor may get."""
        taken = len(self._delivering) + self._claiming + len(self._enqueuing)
        return self._settings.concurrency - taken

    async def _enqueue(self, backend: Backend, message: NewMessage) -> str:
        began = self._context.clock.now()
        with self._holding(began) as hold:
            done = await backend.messages.enqueue_and_claim(
                message,
                lease=self._lease,
                serialize_runs=self._settings.serialize_runs,
                taken=hold,
            )
        if done.claimed is not None:
            self._spawn(done.claimed)
        return done.message_id

    async def _drain(self, grace_s: float) -> None:
        if self._deliveries:
            _, late = await asyncio.wait(self._deliveries, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning("Giving back %d messages at shutdown", len(late))
                await self._leave_behind()
        await _finished(list(self._deliveries))

    async def _leave_behind(self) -> None:
        """Handlers that were cancelled and go on all the same keep nothing from others."""
        if self._delivering:
            await asyncio.wait(self._delivering, timeout=_CANCELLED_S)
        if not self._delivering:
            return
        ids = [message.message_id for message in self._delivering.values()]
        logger.error("Handlers go on although they were cancelled, of messages %s", ", ".join(ids))
        for task, message in self._delivering.items():
            self._deliveries.discard(task)
            if self._heartbeat is not None:
                self._heartbeat.lose(_lease_of(message))
        await self._give_back(self._context.backend, list(self._delivering.values()))

    async def _claim_loop(self, backend: Backend, signal: Subscription) -> None:
        try:
            await self._claim_until_stopped(backend, signal)
        except asyncio.CancelledError:
            # The event loop ends without ``close``: nothing of the worker must stay behind.
            logger.warning("The event loop ended before this World was closed: its worker stopped")
            self._let_go()
            raise

    async def _claim_until_stopped(self, backend: Backend, signal: Subscription) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                pause = await self._claim(backend)
                failures = 0
            except WorldClosedError:
                return
            except Exception as error:
                # Of any kind: whatever it was, without this loop nothing is delivered any more.
                pause = min(_BACKOFF_FIRST_S * 2 ** min(failures, 10), _BACKOFF_MAX_S)
                if failures in (0, 10, 100) or failures % 1000 == 0:
                    unforeseen = None if isinstance(error, WorldError) else error
                    logger.error("Claiming failed, trying again: %s", error, exc_info=unforeseen)
                failures += 1
            if pause != 0:
                await signal.wait(pause)
            else:
                # Deliveries that end at once leave their slots meanwhile, and their settlements go
                # into the transaction of the claim that fills those.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)

    async def _claim(self, backend: Backend) -> float:
        """Fill the free slots. Returns: seconds until the next claim, unless a wake-up comes."""
        free = self._free
        prefixes = self._deliverer.prefixes
        if free <= 0:
            # A slot that becomes free wakes; should that be lost, this looks again.
            self._saturated = True
            return self._poll_interval()
        if prefixes is not None and not prefixes:
            return self._poll_interval()
        await self._renew()
        began = self._context.clock.now()
        # While there are few messages one slot is kept, for what is enqueued during the claim.
        self._claiming = limit = free if self._busy else max(1, free - 1)
        try:
            with self._holding(began) as hold:
                claim = await backend.messages.claim(
                    limit=limit,
                    lease=self._lease,
                    serialize_runs=self._settings.serialize_runs,
                    prefixes=prefixes,
                    taken=hold,
                )
        finally:
            self._claiming = 0
        if self._stopping.is_set():
            # It came too late to be delivered here; others need not wait for its lease's end.
            self._drop(claim.messages)
            await self._give_back(backend, claim.messages)
            return 0
        for message in await self._one_suspect(backend, claim.messages):
            self._spawn(message)
        self._busy = len(claim.messages) == limit
        # Slots may have become free during the claim, when nobody was told of them.
        self._saturated = self._busy and self._free <= 0
        if self._busy:
            return self._poll_interval() if self._saturated else 0
        pause = self._poll_interval()
        before, self._overdue = self._overdue, False
        if claim.next_due_at is not None:
            until = (claim.next_due_at - self._context.clock.now()).total_seconds()
            # It fell due a moment ago; or the database's clock is behind this one, which another
            # claim tells, and then only polling helps.
            self._overdue = until <= 0 and not claim.messages
            if not (self._overdue and before):
                pause = min(pause, max(0.001, until))
        return pause

    async def _renew(self) -> None:
        """Extend leases that may have run out while their deliveries go on: what takes expired
        ones would take them, too. Raises: WorldError."""
        if self._heartbeat is not None and self._heartbeat.is_late:
            await asyncio.to_thread(self._heartbeat.renew)

    async def _one_suspect(self, backend: Backend, messages: Sequence[Message]) -> list[Message]:
        """The messages without a second one that may end this process: should it do so, then
        only its own delivery is lost. The others are given back before it begins."""
        chosen: list[Message] = []
        others: list[Message] = []
        for message in messages:
            if not delivery.is_suspect(message, self._limits):
                chosen.append(message)
            elif self._suspect is None:
                self._suspect = message.message_id
                chosen.append(message)
            else:
                others.append(message)
        self._drop(others)
        await self._give_back(backend, others, delay_s=_SUSPECT_DELAY_S)
        return chosen

    @contextlib.contextmanager
    def _holding(self, since: datetime) -> Generator[Taken]:
        """Leases are held from the commit on: this event loop may hear of it much later. Should it
        never hear of it nobody delivers them, and they end by themselves."""
        heartbeat, held = self._heartbeat, list[Message]()
        assert heartbeat is not None

        def hold(messages: Sequence[Message]) -> None:
            held.extend(messages)
            for message in messages:
                heartbeat.hold(_lease_of(message), since)

        try:
            yield hold
        except BaseException:
            self._drop(held)
            raise

    def _drop(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if self._heartbeat is not None:
                self._heartbeat.drop(_lease_of(message))

    async def _give_back(
        self, backend: Backend, messages: Sequence[Message], *, delay_s: float = 0
    ) -> None:
        """End leases under which nothing was delivered."""
        if not messages:
            return
        now = self._context.clock.now()
        pairs = [
            (delivery.undelivered(message, now, delay_s=delay_s), None) for message in messages
        ]
        try:
            await backend.messages.settle(pairs)
        except Exception as error:
            # Their leases end by themselves; what was chosen for delivery is held all the same.
            unforeseen = None if isinstance(error, WorldError) else error
            text = "%d messages are not given back yet: %s"
            logger.warning(text, len(messages), error, exc_info=unforeseen)

    def _poll_interval(self) -> float:
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        return self._settings.poll_interval_ms / 1000 * spread

    def _spawn(self, message: Message) -> None:
        attempt = self._attempt
        assert attempt is not None
        lease = _lease_of(message)
        # Whoever enqueued the message is not to be seen from its handler.
        context = None if self._variables is None else self._variables.copy()
        task = asyncio.create_task(self._work(attempt, message, lease), context=context)
        self._deliveries.add(task)
        self._delivering[task] = message
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        self._delivering.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A delivery ended with an error of its own", exc_info=error)

    def _claim_now(self) -> None:
        self._claim_is_due = False
        if self._signal is not None and not self._stopping.is_set():
            self._context.backend.notifier.notify(QUEUE)

    async def _work(self, attempt: Attempt, message: Message, lease: Lease) -> None:
        """Deliver and settle one message; its lease is held until then."""
        current = asyncio.current_task()
        assert current is not None
        try:
            try:
                if await self._was_lost(lease):
                    say_lost(message, "its handler did not begin")
                    return
                with Delivery(self._context, lease):
                    settlement = await attempt.deliver(message)
            finally:
                self._delivering.pop(current, None)
                if self._saturated and not self._claim_is_due:
                    # Soon, not now: the settlement goes first, and both share a commit.
                    self._claim_is_due = True
                    asyncio.get_running_loop().call_soon(self._claim_now)
            if self._heartbeat is not None and self._heartbeat.is_lost(lease):
                say_lost(message)
            else:
                await attempt.settle(message, settlement)
        finally:
            if self._suspect == message.message_id:
                self._suspect = None
            if self._heartbeat is not None:
                self._heartbeat.drop(lease)

    async def _was_lost(self, lease: Lease) -> bool:
        """Whether the message is another's by now: this process was stopped, or had an outage."""
        if self._heartbeat is None:
            return False
        # If it cannot be told, the lease's end decides, as it does during the delivery.
        with contextlib.suppress(WorldError):
            await self._renew()
        return self._heartbeat.is_lost(lease)


def _lease_of(message: Message) -> Lease:
    return Lease(message_id=message.message_id, token=message.lease_token or "")


async def _finished(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
