"""Claims for the free slots of a worker: in a loop, and beside an enqueue (spec 4.5)."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from typing import Final

from ..api.context import Context
from ..backend import Backend, Claim, NewMessage
from ..core.delivery import Limits
from ..errors import WorldClosedError, WorldError
from ..signals import QUEUE
from .attempt import Attempt
from .backoff import backoff_s
from .deliver import Deliverer
from .held import Held
from .settling import Settling
from .slots import Slots, finished

logger = logging.getLogger("workflow_world.worker")

_JITTER: Final = 0.2
_TURNS: Final = 2
"""Of the event loop: in one deliveries begin, in the next those that are over are settled."""


class Claims:
    """Fills its ``slots`` until ``stopping`` is set. Made on the event loop of the deliveries."""

    def __init__(
        self,
        context: Context,
        backend: Backend,
        deliverer: Deliverer,
        held: Held,
        limits: Limits,
        stopping: asyncio.Event,
    ) -> None:
        self._context, self._settings, self._messages = context, context.settings, backend.messages
        self._deliverer, self._held, self._stopping = deliverer, held, stopping
        attempt = Attempt(context, deliverer, Settling(backend.messages), limits)
        self.slots = Slots(context, held, attempt, limits, freed=self._slot_is_free)
        self._loop = asyncio.get_running_loop()
        self._wake = functools.partial(backend.notifier.notify, QUEUE)
        self._signal = backend.notifier.subscribe(QUEUE)
        self._enqueuing: set[asyncio.Task[str]] = set()
        self._claiming = 0
        self._saturated = self._busy = self._wake_is_due = self._overdue = False

    def close(self) -> None:
        """Wait for no wake-up any more."""
        self._signal.close()

    async def enqueued(self) -> None:
        """Wait for what is being enqueued."""
        await finished([*self._enqueuing])

    # Beside an enqueue

    def has_room_for(self, message: NewMessage) -> bool:
        """Whether a slot of this event loop may take the message as it is enqueued."""
        if self._loop is not asyncio.get_running_loop() or self._stopping.is_set():
            return False
        if self._saturated or self._free <= 0 or message.delay or message.available_at:
            return False
        prefixes = self._deliverer.prefixes
        return prefixes is None or message.queue_name.startswith(prefixes)

    async def enqueue(self, message: NewMessage) -> str:
        """Store a message for which there is room; a slot takes it in the same transaction."""
        # A task of its own: a caller that is cancelled must not leave a lease without a delivery.
        task = asyncio.create_task(self._enqueue(message))
        self._enqueuing.add(task)
        task.add_done_callback(self._enqueued)
        return await asyncio.shield(task)

    async def _enqueue(self, message: NewMessage) -> str:
        with self._held.holding() as hold:
            done = await self._messages.enqueue_and_claim(
                message,
                lease=self._held.length,
                serialize_runs=self._settings.serialize_runs,
                taken=hold,
            )
        if done.claimed is not None:
            self.slots.deliver(done.claimed)
        return done.message_id

    def _enqueued(self, task: asyncio.Task[str]) -> None:
        self._enqueuing.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that was cancelled does not ask for it any more
        if self._saturated and self._free > 0:
            self._wake_now()

    # In the loop

    async def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                pause = await self._claim()
                failures = 0
            except WorldClosedError:
                return
            except Exception as error:
                # Of any kind: whatever it was, without this loop nothing is delivered any more.
                pause = backoff_s(failures)
                if failures in (0, 10, 100) or failures % 1000 == 0:
                    unforeseen = None if isinstance(error, WorldError) else error
                    logger.error("Claiming failed, trying again: %s", error, exc_info=unforeseen)
                failures += 1
            if pause != 0:
                await self._signal.wait(pause)
            else:
                # Deliveries that end at once leave their slots meanwhile, and their settlements go
                # into the transaction of the claim that fills those.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)

    async def _claim(self) -> float:
        """Fill the free slots. Returns: seconds until the next claim, unless a wake-up comes."""
        prefixes = self._deliverer.prefixes
        if self._free > 0 and prefixes != ():
            await self._held.renew()
        # That may take long, and slots went to what was enqueued meanwhile.
        free = self._free
        if free <= 0:
            # A slot that becomes free wakes; should that be lost, this looks again.
            self._saturated = True
            return self._poll_interval()
        if prefixes == ():
            return self._poll_interval()
        # While there are few messages one slot is kept, for what is enqueued during the claim.
        self._claiming = limit = free if self._busy else max(1, free - 1)
        try:
            with self._held.holding() as hold:
                claim = await self._messages.claim(
                    limit=limit,
                    lease=self._held.length,
                    serialize_runs=self._settings.serialize_runs,
                    prefixes=prefixes,
                    taken=hold,
                )
            return await self._deliver(claim, limit)
        finally:
            self._claiming = 0

    async def _deliver(self, claim: Claim, limit: int) -> float:
        """Returns: see ``_claim``."""
        if self._stopping.is_set():
            # It came too late to be delivered here; others need not wait for its lease's end.
            self._held.drop(claim.messages)
            await self._held.give_back(claim.messages)
            return 0
        await self.slots.fill(claim.messages)
        self._claiming = 0
        self._busy = len(claim.messages) == limit
        # Slots may have become free during the claim, when nobody was told of them.
        self._saturated = self._busy and self._free <= 0
        if self._busy:
            return self._poll_interval() if self._saturated else 0
        return self._until_next(claim)

    def _until_next(self, claim: Claim) -> float:
        """Seconds until the first message that is left falls due, or until the next poll."""
        pause = self._poll_interval()
        before, self._overdue = self._overdue, False
        if claim.next_due_at is None:
            return pause
        until = (claim.next_due_at - self._context.clock.now()).total_seconds()
        # It fell due a moment ago; or the database's clock is behind this one, which another
        # claim tells, and then only polling helps.
        self._overdue = until <= 0 and not claim.messages
        return pause if self._overdue and before else min(pause, max(0.001, until))

    def _poll_interval(self) -> float:
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        return self._settings.poll_interval_ms / 1000 * spread

    @property
    def _free(self) -> int:
        """Slots that nobody has, nor may get."""
        return self.slots.free - self._claiming - len(self._enqueuing)

    def _slot_is_free(self) -> None:
        if self._saturated and not self._wake_is_due:
            # Soon, not now: the settlement goes first, and both share a commit.
            self._wake_is_due = True
            self._loop.call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._wake_is_due = False
        if not self._stopping.is_set():
            self._wake()
