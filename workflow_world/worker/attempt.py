"""One delivery of one message: what its handler comes to, and how that is stored."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from ..api.context import Context
from ..core import delivery
from ..core.decide import intent_for
from ..core.decision import Intent
from ..core.delivery import Failed, Limits, Outcome, Released, Settlement
from ..core.entities import Message
from ..core.events import NewEvent, checked
from ..core.rules import Owner
from ..errors import WorldError
from .backoff import backoff_s
from .deliver import Deliverer
from .settling import Settling

logger = logging.getLogger("workflow_world.worker")

_SETTLE_TRIES: Final = 8


class Attempt:
    """Makes an attempt of each message that it is given, and stores what came of it."""

    def __init__(
        self, context: Context, deliverer: Deliverer, settling: Settling, limits: Limits
    ) -> None:
        self._clock, self._settings = context.clock, context.settings
        self._deliverer, self._settling, self._limits = deliverer, settling, limits

    async def deliver(self, message: Message) -> Settlement:
        """Call the handler, unless the message has no attempt left."""
        reason = delivery.given_up(message, self._limits)
        if reason is not None:
            return delivery.dead(message, reason, self._clock.now())
        outcome: Outcome
        try:
            outcome = await self._deliverer.deliver(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # At shutdown. From here on the task has to settle, so it is no longer cancelled.
                task.uncancel()
                outcome = Released()
            else:
                # Something that the handler waited for was cancelled, not the delivery.
                outcome = Failed(message=f"CancelledError: {error}")
        return delivery.settle(
            message,
            outcome,
            now=self._clock.now(),
            spread=random.uniform(-1, 1),  # noqa: S311
            limits=self._limits,
        )

    async def settle(self, message: Message, settlement: Settlement) -> None:
        """Store it, and fail the run of a message that is given up. Never raises a WorldError."""
        fails = self._settings.fail_exhausted_runs
        intent = failure_of_run(message, settlement) if fails else None
        for attempt in range(_SETTLE_TRIES):
            try:
                settled = await self._settling.settle(settlement, intent, alone=attempt > 0)
            except WorldError as error:
                if error.code == "CORRUPT" and intent is not None:
                    logger.error("Run %s cannot be failed: %s", message.run_id, error)
                    intent = None
                    continue
                # Not settled: the lease's end gives the message back, which costs a delivery.
                logger.warning("Message %s is not settled yet: %s", message.message_id, error)
                await asyncio.sleep(backoff_s(attempt))
                continue
            if not settled:
                say_lost(message)
            elif settlement.exhausted:
                logger.error(
                    "Message %s of queue %s failed for good, run %s: %s",
                    message.message_id,
                    message.queue_name,
                    message.run_id,
                    (settlement.last_error or {}).get("message"),
                    extra={"message_id": message.message_id, "run_id": message.run_id},
                )
            return


def failure_of_run(message: Message, settlement: Settlement) -> Intent | None:
    """What fails the run of a message without attempts left, so that every run ends (design 7)."""
    if not settlement.exhausted or not message.run_id:
        return None
    text = str((settlement.last_error or {}).get("message", ""))
    error = {
        "message": f"Message {message.message_id} could not be delivered: {text}",
        "code": delivery.EXHAUSTED_CODE,
    }
    data = {"error": error, "errorCode": delivery.EXHAUSTED_CODE}
    event = NewEvent(event_type="run_failed", event_data=data)
    return intent_for(message.run_id, checked(message.run_id, event), owner=Owner())


def say_lost(message: Message, consequence: str = "its result is dropped") -> None:
    logger.warning(
        "The lease of message %s was lost: %s",
        message.message_id,
        consequence,
        extra={"message_id": message.message_id, "run_id": message.run_id},
    )
