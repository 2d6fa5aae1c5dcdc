"""The leases that one worker holds, from the commit of their claim to the end of their delivery."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Generator, Sequence
from datetime import timedelta

from ..backend import Lease, MessageStore, Taken
from ..clock import Clock
from ..core import delivery
from ..core.entities import Message
from ..errors import WorldError
from .lease import Heartbeat

logger = logging.getLogger("workflow_world.worker")


class Held:
    """Extends them meanwhile, and gives back what was not delivered.

    Attributes:
        length: of a lease.
    """

    def __init__(self, store: MessageStore, length: timedelta, clock: Clock) -> None:
        self.length = length
        self._store, self._clock = store, clock
        self._heartbeat = Heartbeat(store, length, clock)

    def start(self) -> None:
        """It ends with the event loop that calls this."""
        self._heartbeat.start()

    def cease(self) -> None:
        """Extend nothing more; leases end by themselves."""
        self._heartbeat.cease()

    async def stop(self) -> None:
        """The same, but an extension under way is over."""
        await asyncio.to_thread(self._heartbeat.stop, self.length.total_seconds())

    @contextlib.contextmanager
    def holding(self) -> Generator[Taken]:
        """Leases are held from the commit on: this event loop may hear of it much later. Should it
        never hear of it nobody delivers them, and they end by themselves."""
        since, held = self._clock.now(), list[Message]()

        def hold(messages: Sequence[Message]) -> None:
            held.extend(messages)
            for message in messages:
                self._heartbeat.hold(lease_of(message), since)

        try:
            yield hold
        except BaseException:
            self.drop(held)
            raise

    def drop(self, messages: Sequence[Message]) -> None:
        """Extend these no more."""
        for message in messages:
            self._heartbeat.drop(lease_of(message))

    def lose(self, messages: Sequence[Message]) -> None:
        """The same while handlers of theirs go on, whose results are then dropped."""
        for message in messages:
            self._heartbeat.lose(lease_of(message))

    def is_lost(self, lease: Lease) -> bool:
        """Whether the message is another's, as far as is known."""
        return self._heartbeat.is_lost(lease)

    async def was_lost(self, lease: Lease) -> bool:
        """The same, asked for if need be: this process was stopped, or had an outage."""
        # If it cannot be told, the lease's end decides, as it does during the delivery.
        with contextlib.suppress(WorldError):
            await self.renew()
        return self._heartbeat.is_lost(lease)

    async def renew(self) -> None:
        """Extend leases that may have run out while their deliveries go on: what takes expired
        ones would take them, too. Raises: WorldError."""
        if self._heartbeat.is_late:
            await asyncio.to_thread(self._heartbeat.renew)

    async def give_back(self, messages: Sequence[Message], *, delay_s: float = 0) -> None:
        """End leases under which nothing was delivered. Raises nothing: else they end later."""
        if not messages:
            return
        now = self._clock.now()
        pairs = [
            (delivery.undelivered(message, now, delay_s=delay_s), None) for message in messages
        ]
        try:
            await self._store.settle(pairs)
        except Exception as error:
            # Their leases end by themselves; what was chosen for delivery is held all the same.
            unforeseen = None if isinstance(error, WorldError) else error
            text = "%d messages are not given back yet: %s"
            logger.warning(text, len(messages), error, exc_info=unforeseen)


def lease_of(message: Message) -> Lease:
    return Lease(message_id=message.message_id, token=message.lease_token or "")
