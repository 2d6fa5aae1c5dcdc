"""Every lease as committed: two live ones, or a write without one, are violations. And every event
that somebody was told is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from workflow_world.backend import Lease
from workflow_world.core.entities import Event

from .processes import Process

Rows = Mapping[str, tuple[str | None, datetime | None, str | None]]
"""Of each message the lease token, the lease's end, and the run that it replays."""


@dataclass(frozen=True, slots=True)
class Held:
    token: str
    until: datetime
    holder: Process
    replays: str | None


class Ledger:
    """Told of each commit, by whom and when; ``violations`` is what must not be.

    ``serialized``: nor may two live leases replay one run.
    """

    def __init__(self, *, serialized: bool = False) -> None:
        self._serialized = serialized
        self._held: dict[str, Held] = {}
        self._settling: set[str] = set()
        self.violations: list[str] = []
        self.acknowledged: list[Event] = []

    def holds(self, lease: Lease | None) -> bool:
        """Whether the lease is the one that its message has; without a lease there is no doubt."""
        if lease is None:
            return True
        held = self._held.get(lease.message_id)
        return held is not None and held.token == lease.token

    def settling(self, token: str) -> None:
        """The holder asks for the end of its lease."""
        self._settling.add(token)

    def look(self, rows: Rows, who: Process, now: datetime) -> None:
        """A commit by ``who`` made the messages as they are."""
        for message_id in [one for one in self._held if one not in rows]:
            self._gone(message_id, who, now)
        claimed: list[tuple[str, str]] = []
        for message_id, (token, until, replays) in rows.items():
            held = self._held.get(message_id)
            if held is not None and token != held.token:
                self._gone(message_id, who, now)
            if token is None or until is None:
                continue
            holder = who
            if held is not None and held.token == token:
                holder = held.holder
                if held.until != until and holder is not who:
                    self._wrong(message_id, f"{who.name} moved the lease of {holder.name}")
            self._held[message_id] = Held(token, until, holder, replays)
            if self._serialized and (held is None or held.token != token) and replays is not None:
                claimed.append((message_id, replays))
        # Not before all is known: one commit may end a lease and begin another of the same run.
        for message_id, replays in claimed:
            self._alone(message_id, replays, now)

    def _gone(self, message_id: str, who: Process, now: datetime) -> None:
        held = self._held.pop(message_id)
        asked = held.holder is who and held.token in self._settling
        if not asked and held.until > now and held.holder.alive:
            self._wrong(
                message_id,
                f"{who.name} ended the live lease of {held.holder.name} until {held.until}",
            )

    def _alone(self, message_id: str, run_id: str, now: datetime) -> None:
        for other_id, other in self._held.items():
            if other_id != message_id and other.replays == run_id and other.until > now:
                self._wrong(message_id, f"{run_id} is being replayed by {other.holder.name}")

    def _wrong(self, message_id: str, text: str) -> None:
        self.violations.append(f"message {message_id}: {text}")
