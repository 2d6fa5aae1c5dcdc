"""The message store on SQL."""

from __future__ import annotations

from .claims import Claiming
from .enqueue import Enqueuing
from .leases import Leases
from .upkeep import Upkeep


class SqlMessageStore(Enqueuing, Claiming, Leases, Upkeep):
    """Satisfies ``backend.MessageStore``."""
