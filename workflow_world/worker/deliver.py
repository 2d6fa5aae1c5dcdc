"""One delivery: call the handler in this process or over HTTP, and name the outcome."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from ..codec import decode
from ..core.delivery import Done, Failed, Outcome, Unreachable
from ..core.entities import Message
from ..errors import BackendError
from ..http import QueueHandler
from ..settings import Settings
from .callback_url import configured_url
from .handlers import (
    NOT_THE_HANDLERS,
    Handlers,
    again_of,
    outage_in,
    seconds,
    summary_of,
)

if TYPE_CHECKING:
    from .callback import Callbacks

logger = logging.getLogger("workflow_world.deliver")


class Deliverer:
    """Delivers to registered handlers directly and to everything else by HTTP callback."""

    def __init__(self, settings: Settings, handlers: Handlers) -> None:
        self._settings, self._handlers = settings, handlers

    @cached_property
    def _callbacks(self) -> Callbacks:
        # httpx is a third of all that is imported, and few workers call anybody.
        from .callback import Callbacks

        return Callbacks(self._settings)

    @property
    def prefixes(self) -> tuple[str, ...] | None:
        """Which queues this worker serves; None: all.

        A process that handles some queues itself leaves the others to whoever handles those,
        unless it was told where to call.
        """
        mode = self._settings.delivery
        if mode == "http":
            return None
        if mode == "inprocess" or (self._handlers.prefixes and not configured_url(self._settings)):
            return self._handlers.prefixes
        return None

    async def deliver(self, message: Message) -> Outcome:
        """Never raises but for cancellation: what goes wrong is the delivery's outcome."""
        try:
            return await self._deliver(message)
        except Exception as error:
            logger.exception("Message %s could not be delivered", message.message_id)
            return Failed(message=summary_of(error))

    async def _deliver(self, message: Message) -> Outcome:
        try:
            payload: object = decode(message.payload)
        except BackendError as error:
            return Failed(message=f"The message body cannot be decoded: {error}")
        handler = None
        if self._settings.delivery != "http":
            handler = self._handlers.find(message.queue_name)
        if handler is not None:
            return await _call(handler, payload, message)
        return await self._callbacks.post(payload, message)

    async def close(self) -> None:
        """Close what callbacks keep open. No delivery may be going on."""
        if "_callbacks" in self.__dict__:
            await self._callbacks.close()


async def _call(handler: QueueHandler, payload: object, message: Message) -> Outcome:
    try:
        result = await handler(
            payload,
            attempt=message.attempt,
            queue_name=message.queue_name,
            message_id=message.message_id,
        )
    except NOT_THE_HANDLERS:
        raise
    except BaseException as error:
        if (outage := outage_in(error)) is not None:
            logger.warning("The database failed under message %s: %s", message.message_id, outage)
            return Unreachable(message=f"{type(outage).__name__}: {outage}")
        # A handler that calls exit(), or a panic in a library of Rust's, must not take the worker
        # with it. The message of somebody else's error may quote a payload, so only its first line
        # is kept and logged.
        text = summary_of(error)
        ids = {"message_id": message.message_id, "run_id": message.run_id}
        logger.warning("Message %s failed: %s", message.message_id, text, extra=ids)
        logger.debug("Message %s failed", message.message_id, exc_info=True, extra=ids)
        return Failed(
            message=text, retry_after_seconds=seconds(getattr(error, "retry_after", None))
        )
    return Done() if result is None else again_of(result)
