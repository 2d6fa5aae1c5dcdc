"""What a worker does besides delivering: free expired leases, wake lost runs, prune, and say what
nobody takes.

Source: spec 4.9, 4.10, 4.16.

Every worker does all of it. No leader is needed, because doing it twice is doing it once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence, Set
from datetime import timedelta
from typing import Final

from ..api.context import Context
from ..api.messages import Messages
from ..backend import Backend, Retention
from ..core.recovery import WakeUp, wake_ups
from ..errors import BackendError, WorldClosedError, WorldError
from .unserved import Unserved

logger = logging.getLogger("workflow_world.upkeep")

_PAGE: Final = 200
_PRUNE_BATCH: Final = 500
_JITTER: Final = 0.1
_FAILURES: Final = 10
"""Runs of one pass that the database may refuse to wake before that is taken for an outage."""


class Upkeep:
    """Passes at start and every ``recovery_interval_ms`` of the clock. ``serves``: see
    ``Unserved``."""

    def __init__(
        self,
        context: Context,
        messages: Messages,
        serves: Callable[[], Sequence[str] | None] = lambda: None,
    ) -> None:
        self._context, self._messages = context, messages
        self._unserved = Unserved(context, serves)
        self._hopeless: set[str] = set()
        self._stop: asyncio.Event | None = None

    async def run(self, stop: asyncio.Event, renew: Callable[[], Awaitable[None]]) -> None:
        """Passes until ``stop`` is set; a pass that fails is logged and tried again later.

        ``renew`` extends this worker's own leases, lest they be freed with those of the dead.
        """
        self._stop, at_start = stop, True
        interval = self._context.settings.recovery_interval_ms / 1000
        while not stop.is_set():
            if await _tried(self.sweep(at_start=at_start), "Recovery will be tried again"):
                at_start = False
            await _tried(self.prune(), "Finished messages could not be deleted")
            pause = interval * random.uniform(1 - _JITTER, 1)  # noqa: S311
            if await self._context.clock.wait(stop, pause):
                return
            await _tried(self._reap(renew), "Expired leases could not be freed")
            # Not at start: those who serve the other queues may be starting, too.
            await _tried(self._unserved.look(), "The queues could not be looked at")

    async def sweep(self, *, at_start: bool) -> int:
        """Enqueue what is missing for runs that nobody would wake.

        A run that cannot be woken does not keep the others from it.

        Returns: how many messages, up to the stop.
        Raises: WorldError, when some were not enqueued that may be the next time.
        """
        backend = await self._context.opened()
        settings, after, woken = self._context.settings, None, 0
        known, self._hopeless = self._hopeless, set()
        failures: list[WorldError] = []
        while True:
            page, after = await backend.runs.stranded(after=after, limit=_PAGE)
            for facts in page:
                if self._is_stopped:
                    return woken
                for found in wake_ups(
                    facts,
                    now=self._context.clock.now(),
                    grace=timedelta(milliseconds=settings.recovery_grace_ms),
                    at_start=at_start and settings.recover_active_runs,
                    namespace=settings.queue_namespace,
                ):
                    try:
                        woken += await self._wake(backend, found)
                    except WorldError as error:
                        if not self._is_hopeless(found, error, known):
                            failures.append(error)
                        if len(failures) > _FAILURES:
                            raise
            if after is None or self._is_stopped:
                if failures:
                    raise failures[0]
                return woken

    def _is_hopeless(self, found: WakeUp, error: WorldError, known: Set[str]) -> bool:
        """Whether it is the run's own fault, which no later pass will find mended by itself."""
        if isinstance(error, WorldClosedError):
            raise error
        if isinstance(error, BackendError) and error.code != "CORRUPT":
            return False
        level = logging.DEBUG if found.run_id in known else logging.ERROR
        logger.log(level, "Run %s cannot be woken: %s", found.run_id, error)
        self._hopeless.add(found.run_id)
        return True

    async def prune(self) -> int:
        """Delete finished messages that are older than their retention, in bounded batches."""
        backend = await self._context.opened()
        settings = self._context.settings
        # A key must outlive its window even when the retention is shorter (spec B156).
        window = settings.idempotency_ttl_ms / 1000
        retention = Retention(
            completed=timedelta(seconds=max(settings.completed_retention_s, window)),
            failed=timedelta(seconds=settings.failed_retention_s),
        )
        pruned = 0
        while not self._is_stopped:
            count = await backend.messages.prune(retention, limit=_PRUNE_BATCH)
            if not count:
                break
            pruned += count
        return pruned

    @property
    def _is_stopped(self) -> bool:
        """The worker's shutdown waits for what is under way, so a pass then ends early."""
        return self._stop is not None and self._stop.is_set()

    async def _reap(self, renew: Callable[[], Awaitable[None]]) -> None:
        await renew()
        backend = await self._context.opened()
        if count := await backend.messages.reap():
            logger.warning("Freed %d messages whose lease had expired", count)

    async def _wake(self, backend: Backend, found: WakeUp) -> int:
        message = self._messages.new_message(
            found.queue_name, found.payload, idempotency_key=found.step_id
        )
        message_id = await backend.messages.wake(found, message)
        if message_id is None:
            return 0
        logger.warning(
            "Woke run %s: %s",
            found.run_id,
            found.reason,
            extra={"run_id": found.run_id, "message_id": message_id},
        )
        return 1


async def _tried(work: Awaitable[object], failure: str) -> bool:
    """Whether it was done. What it raises is logged: the next pass must come all the same."""
    try:
        await work
    except WorldError as error:
        logger.warning("%s: %s", failure, error)
    except Exception:
        logger.exception(failure)
    else:
        return True
    return False
