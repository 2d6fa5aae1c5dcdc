"""``world.queue`` and ``world.messages``: putting messages in, and looking at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, Protocol

from ..backend import NewMessage
from ..codec import encode
from ..core.delivery import due_after
from ..core.entities import Message, MessageStatus, Page, QueueStats
from ..core.messages import is_wake_up, subject_of
from ..core.paging import clamp_limit
from ..core.queue_names import parse
from ..core.values import EPOCH, is_safe_id
from ..errors import (
    EntityConflictError,
    InvalidCursorError,
    InvalidRequestError,
    MessageNotFoundError,
)
from ..ids import new_id
from .context import Context, check_id

RESERVED_HEADERS: Final = frozenset(
    {"content-type", "x-vqs-queue-name", "x-vqs-message-id", "x-vqs-message-attempt"}
)
_LONGEST_DELAY_S: Final = 1e10
"""Three centuries: what a date can still hold."""


class Enqueuer(Protocol):
    """Stores a message whose row is made."""

    async def enqueue(self, message: NewMessage) -> str:
        """Returns: the id of the stored or found message."""
        ...


class Messages:
    """``enqueuer`` is the worker of this World, which may take a new message at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.enqueuer: Enqueuer | None = None

    async def enqueue(
        self,
        queue_name: str,
        message: object,
        *,
        idempotency_key: str | None = None,
        delay_seconds: float | None = None,
        deployment_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """See ``World.queue``."""
        new = self.new_message(
            queue_name,
            message,
            idempotency_key=idempotency_key,
            delay_seconds=delay_seconds,
            deployment_id=deployment_id,
            headers=headers,
        )
        if self.enqueuer is not None:
            return await self.enqueuer.enqueue(new)
        backend = await self._context.opened()
        return await backend.messages.enqueue(new)

    def new_message(
        self,
        queue_name: str,
        message: object,
        *,
        idempotency_key: str | None = None,
        delay_seconds: float | None = None,
        deployment_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> NewMessage:
        """The row for a message, checked. Raises: InvalidQueueNameError, InvalidRequestError."""
        parse(queue_name)
        if idempotency_key is not None and not is_safe_id(idempotency_key):
            raise InvalidRequestError("idempotency_key must be 1 to 512 characters without NUL")
        delay = delay_seconds or 0.0
        if not delay < _LONGEST_DELAY_S:
            raise InvalidRequestError(f"delay_seconds must be a number of seconds, not {delay}")
        delay = max(0.0, delay)
        subject = subject_of(message)
        for name, value in (("runId", subject.run_id), ("stepId", subject.step_id)):
            if value is not None:
                check_id(value, name)
        _check_texts("deployment_id", () if deployment_id is None else (deployment_id,))
        _check_texts("headers", [text for pair in (headers or {}).items() for text in pair])
        settings = self._context.settings
        return NewMessage(
            message_id=new_id("msg"),
            queue_name=queue_name,
            payload=encode(message),
            max_attempts=settings.max_retries,
            delay=due_after(EPOCH, delay) - EPOCH,
            idempotency_key=idempotency_key,
            key_ttl=timedelta(milliseconds=settings.idempotency_ttl_ms),
            run_id=subject.run_id,
            step_id=subject.step_id,
            is_wake_up=is_wake_up(
                subject, delay_seconds=delay, idempotency_key=idempotency_key, headers=headers
            ),
            deployment_id=deployment_id,
            headers=None if headers is None else dict(headers),
        )

    async def stats(self) -> QueueStats:
        """Counts per queue and status, the oldest due time and the oldest running claim."""
        backend = await self._context.opened()
        return await backend.messages.stats()

    async def get(self, message_id: str) -> Message:
        """Raises: MessageNotFoundError."""
        backend = await self._context.opened()
        message = await backend.messages.get_message(check_id(message_id, "message_id"))
        if message is None:
            raise MessageNotFoundError(message_id)
        return message

    async def list(
        self,
        *,
        status: MessageStatus | None = None,
        run_id: str | None = None,
        queue_name: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Message]:
        """Messages in the order of their ids. The cursor is the id of the last one seen.

        Raises: InvalidCursorError.
        """
        cursor = cursor or None
        if cursor is not None and not (cursor.startswith("msg_") and is_safe_id(cursor)):
            raise InvalidCursorError("The cursor is not one that this list returned")
        size = clamp_limit(limit, 100)
        backend = await self._context.opened()
        rows = await backend.messages.list_messages(
            status=status, run_id=run_id, queue_name=queue_name, after=cursor, limit=size + 1
        )
        more = len(rows) > size
        return Page(
            data=tuple(rows[:size]),
            cursor=rows[size - 1].message_id if more else None,
            has_more=more,
        )

    async def retry(self, message_id: str) -> None:
        """Deliver a finished message again: attempt 1, due now.

        Raises: MessageNotFoundError; EntityConflictError when it is unfinished, or another
            unfinished message holds its idempotency key.
        """
        await self.get(message_id)
        backend = await self._context.opened()
        if not await backend.messages.retry(message_id):
            raise EntityConflictError(
                f"Message {message_id!r} is unfinished, or its idempotency key is in use"
            )

    async def delete(self, message_id: str) -> None:
        """Raises: MessageNotFoundError; EntityConflictError while it is being delivered."""
        await self.get(message_id)
        backend = await self._context.opened()
        if not await backend.messages.delete(message_id):
            raise EntityConflictError(f"Message {message_id!r} is being delivered")


def _check_texts(name: str, values: Iterable[object]) -> None:
    """Raises: InvalidRequestError for what is no text, or cannot be stored as text."""
    for value in values:
        try:
            if isinstance(value, str):
                value.encode()
                continue
        except UnicodeEncodeError:
            pass
        raise InvalidRequestError(f"{name} must be text without lone surrogates, not {value!a:.60}")
