"""What a delivery sends, it sends only while it holds its lease."""

from __future__ import annotations

from .. import message_rows
from ..backend import Lease
from .documents import MESSAGES
from .transaction import Transaction


def ahead_of(sender: Lease | None) -> list[tuple[str, str]]:
    """What ``must_hold`` is going to read."""
    return [] if sender is None else [(MESSAGES.collection, sender.message_id)]


def must_hold(transaction: Transaction, sender: Lease | None) -> None:
    """Raises: LeaseLostError."""
    if sender is None:
        return
    found = transaction.get(MESSAGES.collection, sender.message_id)
    known = {} if found is None else {sender.message_id: MESSAGES.readable(found)}
    message_rows.must_hold(known, sender)
