"""The statements of the message store."""

from __future__ import annotations

from .claims import ClaimStatements
from .enqueue import EnqueueStatements
from .leases import LeaseStatements
from .upkeep import UpkeepStatements


class QueueStatements(EnqueueStatements, ClaimStatements, LeaseStatements, UpkeepStatements):
    """All of them."""
