"""A word about messages that nobody takes: a run that waits for one must not do so in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from ..api.context import Context
from ..core.values import iso_ms

logger = logging.getLogger("workflow_world.upkeep")


class Unserved:
    """``serves`` tells the queue-name prefixes that this worker serves, or None: all."""

    def __init__(self, context: Context, serves: Callable[[], Sequence[str] | None]) -> None:
        self._context, self._serves = context, serves
        self._known: set[str] = set()

    async def look(self) -> None:
        """Warn of each queue that this worker does not serve, and nobody else seems to; once,
        until its messages are taken. A message is given the recovery's grace.

        Raises: WorldError.
        """
        prefixes = self._serves()
        if prefixes is None:
            return
        grace = timedelta(milliseconds=self._context.settings.recovery_grace_ms)
        backend = await self._context.opened()
        found = await backend.messages.unserved(prefixes=prefixes, overdue=grace)
        for name in sorted(found.keys() - self._known):
            logger.warning(
                "Nobody takes the messages of queue %s: the first fell due at %s. This worker "
                "serves %s. Start one with the handlers of that queue, or correct "
                "WORKFLOW_QUEUE_NAMESPACE where they are sent; 'workflow-world status' counts them",
                name,
                iso_ms(found[name]),
                ", ".join(f"{prefix}*" for prefix in prefixes) or "no queue, it has no handlers",
                extra={"queue_name": name},
            )
        self._known = set(found)
