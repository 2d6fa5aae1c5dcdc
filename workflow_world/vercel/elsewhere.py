"""A worker leaves the runs of workflows that it does not have to one that has them.

The SDK fails such a run at once, and for good: where a worker was started with the wrong module, in
the old processes of a deployment that adds a workflow, or with two applications on one database.
Here the answer is the same message again, which costs no attempt, until another process takes it;
the SDK has its way only when none did.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

from vercel.workflow._internal import core
from vercel.workflow._internal import world as w

from ..clock import Clock

logger = logging.getLogger("workflow_world.vercel")

PATIENCE: Final = timedelta(minutes=5)
"""How long each message waits for somebody else."""
_FIRST_S: Final = 0.25
_LONGEST_S: Final = 5.0
_FRACTION: Final = 20
"""The next turn comes after this fraction of the time that the message has waited already."""
_BUILTIN: Final = cast("Container[str]", core._builtin_steps)  # pyright: ignore[reportPrivateUsage,reportUnknownMemberType]


def left_to_others(clock: Clock, prefix: str, handler: w.QueueHandler) -> w.QueueHandler:
    """The SDK's handler, which is called for what its ``Workflows`` has; for what it lacks only
    when the message has met nobody else for as long as ``PATIENCE``."""
    registry = getattr(handler, "keywords", {}).get("registry")
    if not isinstance(registry, core.Workflows):
        return handler
    waiting = _Waiting(clock)
    told: set[str] = set()

    async def handle(
        message: Any, *, attempt: int, queue_name: str, message_id: str
    ) -> w.QueueContinuation | None:
        lacking = _lacking(registry, message, queue_name.removeprefix(prefix))
        if lacking is not None:
            if lacking not in told:
                told.add(lacking)
                logger.warning(
                    "This process has no %s: it leaves the message %s to others, and fails it if "
                    "there are none for %d s. Start a worker with the module that has it, and none "
                    "without on this database, or use a namespace for each application",
                    lacking,
                    message_id,
                    PATIENCE.total_seconds(),
                )
            if (pause := waiting.pause(message_id)) is not None:
                return w.QueueContinuation(delay_seconds=pause)
        return await handler(message, attempt=attempt, queue_name=queue_name, message_id=message_id)

    return handle


def _lacking(registry: core.Workflows, message: object, workflow: str) -> str | None:
    """What the message is for, if this process does not have it: ``workflow …`` or ``step …``."""
    if not isinstance(message, Mapping) or "runId" not in message:
        return None
    step = cast("Any", message).get("stepName")
    if isinstance(step, str):
        known = step in _BUILTIN or step in _names(registry, "_steps")
        return None if known else f"step {step}"
    return None if workflow in _names(registry, "_workflows") else f"workflow {workflow}"


def _names(registry: core.Workflows, attribute: str) -> Container[str]:
    return cast("Container[str]", getattr(registry, attribute))


class _Waiting:
    """Since when each message waits for somebody else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, datetime] = {}

    def pause(self, message_id: str) -> float | None:
        """Seconds until its next turn; None: it has waited long enough."""
        now = self._clock.now()
        waited = now - self._since.setdefault(message_id, now)
        if waited < PATIENCE:
            self._forget(now)
            return min(max(waited.total_seconds() / _FRACTION, _FIRST_S), _LONGEST_S)
        del self._since[message_id]
        return None

    def _forget(self, now: datetime) -> None:
        """What others took; the oldest are first."""
        while (oldest := next(iter(self._since))) and now - self._since[oldest] > 2 * PATIENCE:
            del self._since[oldest]
