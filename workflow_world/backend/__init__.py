"""The seam: what a database must do for a World. Four protocols, about twenty verbs, no rules.

A backend loads facts, applies decisions and keeps both atomic. It decides nothing about runs,
steps, hooks, deliveries or recovery: those rules are in ``workflow_world.core`` and arrive here as
values and pure functions. ``workflow_world.memory`` is the reference to copy from, and
``workflow_world.testing.conformance`` says when a backend is done.

Common to all verbs:

- A verb that returned is durable and visible to every handle on the same database. A loss of
  power, but no crash, may undo the latest claims, extensions, settlements without an intent, and
  messages with a ``sender``: what was delivered is then delivered again, as it may be anyway. It
  undoes the last of them first.
- A verb that raised wrote nothing, except ``BackendError`` with code ``UNKNOWN_OUTCOME``.
- Driver errors never leak: they become ``BackendError`` with the original as ``__cause__``.
- Times are aware UTC datetimes with whole milliseconds; durations are ``timedelta``.
- Verbs may be called from any event loop of the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..core.decision import Facts, Intent, Verdict
from ..core.delivery import Lease
from .chunks import ChunkStore
from .messages import OLDEST, Claim, Enqueued, MessageStore, NewMessage, Presence, Retention, Taken
from .runs import RunStore
from .signals import Notifier, Subscription

__all__ = [
    "OLDEST",
    "Backend",
    "Capabilities",
    "ChunkStore",
    "Claim",
    "Enqueued",
    "Facts",
    "Intent",
    "Lease",
    "MessageStore",
    "NewMessage",
    "Notifier",
    "Presence",
    "Retention",
    "RunStore",
    "Subscription",
    "Taken",
    "Verdict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond the contract; asked by code and tests alike.

    Attributes:
        name: for messages and test ids.
        durable: content survives the process.
        cross_process: several processes may open one database.
        notifies_processes: another process's write wakes a subscription without a poll.
        constraints: the database itself refuses an illegal row.
        max_chunk_bytes, max_payload_bytes: refused above with PayloadTooLargeError; None: no limit.
    """

    name: str
    durable: bool = True
    cross_process: bool = True
    notifies_processes: bool = False
    constraints: bool = True
    max_chunk_bytes: int | None = None
    max_payload_bytes: int | None = None


@runtime_checkable
class Backend(Protocol):
    """One handle on one database."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def runs(self) -> RunStore: ...
    @property
    def messages(self) -> MessageStore: ...
    @property
    def chunks(self) -> ChunkStore: ...
    @property
    def notifier(self) -> Notifier: ...

    async def open(self) -> None:
        """Connect, migrate or check the schema. Concurrent calls share one attempt; a failed one
        is tried again by the next call; once it succeeded this returns at once.

        Raises: BackendError, SchemaError, ConfigurationError.
        """
        ...

    async def close(self) -> None:
        """Give back what this handle holds; never raises because the database is gone."""
        ...
