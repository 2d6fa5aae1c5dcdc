"""Heartbeats: leases are extended from a thread that a busy event loop cannot starve (spec 4.7)."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import datetime, timedelta
from typing import Final

from ..backend import Lease, MessageStore
from ..clock import Clock, Ticker
from ..errors import WorldError

logger = logging.getLogger("workflow_world.lease")

_FRACTION: Final = 3
_SAFE: Final = 2
"""Of a lease that was extended less than this fraction of it ago nobody needs to doubt."""
_LONG: Final = 10
"""Leases that a delivery may last before that is worth a word, and again ten times as many."""


class Heartbeat:
    """Extends every lease it holds each third of the lease's length, until told otherwise."""

    def __init__(self, store: MessageStore, lease: timedelta, clock: Clock) -> None:
        self._store, self._lease, self._clock = store, lease, clock
        self._lock, self._extending = threading.Lock(), threading.Lock()
        self._proven, self._doubts = clock.now(), 0
        self._held: dict[str, str] = {}
        self._lost: set[str] = set()
        self._ticker: Ticker | None = None
        self._beats: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """It ends with the event loop that calls this, for then nobody works any more."""
        self._loop = asyncio.get_running_loop()
        interval = self._lease.total_seconds() / _FRACTION
        self._ticker = self._clock.every(interval, self._beat, name="workflow-world-heartbeat")

    def cease(self) -> None:
        """Extend nothing more; the thread ends soon."""
        self.stop(0)

    def stop(self, timeout: float | None = None) -> None:
        """Blocking: waits up to ``timeout`` seconds for an extension under way."""
        if self._ticker is not None:
            self._ticker.stop(timeout)
            self._ticker = None

    def hold(self, lease: Lease, since: datetime) -> None:
        """``since``: when it was asked for. Its answer may have come much later."""
        with self._lock:
            self._held[lease.message_id] = lease.token
            self._lost.discard(lease.token)
            self._beats[lease.token] = 0
            if since < self._proven:
                self._proven = since
                self._doubts += 1

    @property
    def is_late(self) -> bool:
        """Whether what it holds may have run out: after an outage, or when the process was stopped.

        A clock that was set back is a reason to doubt, too.
        """
        with self._lock:
            age = self._clock.now() - self._proven
            return bool(self._held) and not timedelta(0) <= age <= self._lease / _SAFE

    def renew(self) -> None:
        """Blocking: extend now, if late, what nobody else has taken yet. Raises: WorldError."""
        with self._extending:
            if self.is_late:
                self._extend()

    def is_lost(self, lease: Lease) -> bool:
        """Whether an extension found another token: somebody else delivers the message now."""
        with self._lock:
            return lease.token in self._lost

    def lose(self, lease: Lease) -> None:
        """Stop extending: the message is given to others while its handler still goes on."""
        self._give_up([lease], frozenset({lease.message_id}))

    def drop(self, lease: Lease) -> None:
        """Stop extending."""
        with self._lock:
            if self._held.get(lease.message_id) == lease.token:
                del self._held[lease.message_id]
            self._lost.discard(lease.token)
            self._beats.pop(lease.token, None)

    def _beat(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            self.cease()
            return
        try:
            with self._extending:
                self._speak_of_long_ones()
                self._extend()
        except WorldError as error:
            # The lease's end decides; the next beat tries again.
            logger.warning("Could not extend leases: %s", error)
        except Exception:
            logger.exception("Could not extend leases")

    def _extend(self) -> None:
        with self._lock:
            leases = [Lease(message_id=key, token=token) for key, token in self._held.items()]
            began, doubts = self._clock.now(), self._doubts
        if leases and (lost := self._store.extend(leases, self._lease)):
            self._give_up(leases, lost)
        with self._lock:
            if doubts == self._doubts:
                self._proven = began

    def _speak_of_long_ones(self) -> None:
        """A handler that hangs keeps its message for as long as the process lives: say so."""
        with self._lock:
            held = list(self._held.items())
        for message_id, token in held:
            with self._lock:
                if token not in self._beats:
                    continue
                self._beats[token] = beats = self._beats[token] + 1
            count, rest = divmod(beats, _FRACTION)
            if not rest and _is_power(count, _LONG):
                seconds = count * self._lease.total_seconds()
                logger.warning("Message %s has been with its handler for %g s", message_id, seconds)

    def _give_up(self, leases: list[Lease], lost: frozenset[str]) -> None:
        """Says nothing: a message that was settled a moment ago has no lease either."""
        with self._lock:
            for lease in leases:
                if lease.message_id in lost and self._held.get(lease.message_id) == lease.token:
                    del self._held[lease.message_id]
                    self._lost.add(lease.token)


def _is_power(number: int, base: int) -> bool:
    """Whether the number is the base, or its square, or …"""
    while number > base and number % base == 0:
        number //= base
    return number == base
