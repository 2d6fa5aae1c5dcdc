"""Heartbeats: leases are extended from a thread that a busy event loop cannot starve (spec 4.7)."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Final

from ..backend import Lease, MessageStore
from ..errors import WorldError

logger = logging.getLogger("workflow_world.lease")

_FRACTION: Final = 3


class Heartbeat:
    """Extends every lease it holds each third of the lease's length, until told otherwise."""

    def __init__(self, store: MessageStore, lease: timedelta) -> None:
        self._store, self._lease = store, lease
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}
        self._lost: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._beat, name="workflow-world-heartbeat", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Blocking: waits up to ``timeout`` seconds for an extension under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.message_id] = lease.token
            self._lost.discard(lease.token)

    def is_lost(self, lease: Lease) -> bool:
        """Whether an extension found another token: somebody else delivers the message now."""
        with self._lock:
            return lease.token in self._lost

    def drop(self, lease: Lease) -> None:
        """Stop extending."""
        with self._lock:
            if self._held.get(lease.message_id) == lease.token:
                del self._held[lease.message_id]
            self._lost.discard(lease.token)

    def _beat(self) -> None:
        interval = self._lease.total_seconds() / _FRACTION
        while not self._stop.wait(interval):
            with self._lock:
                leases = [Lease(message_id=key, token=token) for key, token in self._held.items()]
            if not leases:
                continue
            try:
                lost = self._store.extend(leases, self._lease)
            except WorldError as error:
                # The lease's end decides; the next beat tries again.
                logger.warning("Could not extend %d leases: %s", len(leases), error)
                continue
            if lost:
                self._give_up(leases, lost)

    def _give_up(self, leases: list[Lease], lost: frozenset[str]) -> None:
        """Says nothing: a message that was settled a moment ago has no lease either."""
        with self._lock:
            for lease in leases:
                if lease.message_id in lost and self._held.get(lease.message_id) == lease.token:
                    del self._held[lease.message_id]
                    self._lost.add(lease.token)
