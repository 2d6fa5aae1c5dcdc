"""One message before and after each change, as pure functions; a backend stores the results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from .backend import Lease, NewMessage
from .core.delivery import Settlement
from .core.entities import Message, MessageStatus
from .core.recovery import MOMENT
from .errors import LeaseLostError
from .ids import new_ulid


def must_hold(messages: Mapping[str, Message], lease: Lease | None) -> None:
    """Raises: LeaseLostError unless the lease, if there is one, is the message's own."""
    if lease is None:
        return
    message = messages.get(lease.message_id)
    if message is None or message.lease_token != lease.token:
        raise LeaseLostError(lease.message_id)


def will_replay(message: Message, now: datetime) -> bool:
    """Whether it replays its run, and is claimed or due within ``MOMENT``."""
    return message.replays is not None and (
        message.status == "processing"
        or (message.status == "pending" and message.available_at <= now + MOMENT)
    )


def is_unfinished(message: Message) -> bool:
    """Whether the message is still to be delivered, or is being delivered."""
    return message.status in ("pending", "processing")


def is_leased(message: Message, now: datetime) -> bool:
    """Whether a live lease is on the message."""
    return message.leased_until is not None and message.leased_until > now


def is_ready(message: Message, now: datetime) -> bool:
    """Whether a claim may take it: pending and due, or left behind by a lease that ran out."""
    if message.status == "processing":
        return not is_leased(message, now)
    return message.status == "pending" and message.available_at <= now


def has_prefix(message: Message, prefixes: Sequence[str] | None) -> bool:
    return prefixes is None or message.queue_name.startswith(tuple(prefixes))


def holder(
    messages: Collection[Message], key: str | None, *, besides: str | None = None
) -> Message | None:
    """The unfinished message that holds the idempotency key, if there is one."""
    for message in messages:
        if (
            key is not None
            and message.idempotency_key == key
            and message.message_id != besides
            and is_unfinished(message)
        ):
            return message
    return None


def superfluous(messages: Collection[Message], new: NewMessage, now: datetime) -> Message | None:
    """The stored message that says the same, in the order of ``MessageStore.enqueue``."""
    if (held := holder(messages, new.idempotency_key)) is not None:
        return held
    for message in messages:
        if (
            new.idempotency_key is not None
            and message.idempotency_key == new.idempotency_key
            and message.status == "completed"
            and message.processed_at is not None
            and message.processed_at > now - new.key_ttl
        ):
            return message
    waiting = pending_wake_up(messages, new.run_id) if new.is_wake_up else None
    if waiting is not None and waiting.queue_name == new.queue_name and waiting.available_at <= now:
        return waiting
    return None


def pending_wake_up(messages: Collection[Message], run_id: str | None) -> Message | None:
    """The wake-up of the run that nobody has claimed; a run has one at most."""
    for message in messages:
        if message.is_wake_up and message.status == "pending" and message.run_id == run_id:
            return message
    return None


def stored(new: NewMessage, now: datetime) -> Message:
    """The row of a new message."""
    return Message(
        message_id=new.message_id,
        queue_name=new.queue_name,
        payload=new.payload,
        max_attempts=new.max_attempts,
        idempotency_key=new.idempotency_key,
        available_at=new.available_at or now + new.delay,
        run_id=new.run_id,
        step_id=new.step_id,
        is_wake_up=new.is_wake_up,
        deployment_id=new.deployment_id,
        headers=new.headers,
        created_at=now,
        updated_at=now,
    )


def claimed(message: Message, now: datetime, lease: timedelta) -> Message:
    return replace(
        message,
        status="processing",
        lease_token=new_ulid(),
        leased_until=now + lease,
        claimed_at=now,
        deliveries=message.deliveries + 1,
        updated_at=now,
    )


def pending_again(message: Message, now: datetime) -> Message:
    """Without a lease, and no wake-up any more: a newer one of the run may be pending already."""
    return replace(
        message,
        status="pending",
        lease_token=None,
        leased_until=None,
        is_wake_up=False,
        updated_at=now,
        processed_at=None,
    )


def finished(message: Message, status: MessageStatus, now: datetime) -> Message:
    return replace(
        message,
        status=status,
        lease_token=None,
        leased_until=None,
        updated_at=now,
        processed_at=now,
    )


def settled(
    message: Message,
    one: Settlement,
    *,
    others: Collection[Message],
    ahead: timedelta = timedelta(0),
) -> Message:
    """The message after its delivery. ``others``: those that may hold the settlement's key.
    ``ahead``: how far the queue's clock is ahead of the one that the settlement's times are of."""
    now = one.updated_at + ahead
    key = one.idempotency_key if one.unless_key_held else None
    if holder(others, key, besides=message.message_id) is not None:
        return finished(replace(message, last_error=one.last_error), "completed", now)
    again = one.status == "pending"
    after = replace(
        message,
        attempt=one.attempt,
        deliveries=one.deliveries,
        available_at=one.available_at + (ahead if again else timedelta(0)),
        idempotency_key=one.idempotency_key,
        last_error=one.last_error,
    )
    return pending_again(after, now) if again else finished(after, one.status, now)
