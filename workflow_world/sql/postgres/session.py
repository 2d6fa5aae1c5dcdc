"""A session that remembers whom to tell of its transaction, and how they are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from sqlalchemy.engine import Dialect

from ..compiled import Cursor, ProvingSession

_MAX_PAYLOAD: Final = 7_900
ALL: Final = "*"


class PostgresSession(ProvingSession):
    """See ``Session``. ``topics`` are what other processes are told after the commit."""

    __slots__ = ("topics",)

    def __init__(self, cursor: Cursor, dialect: Dialect, now: Callable[[], datetime]) -> None:
        super().__init__(cursor, dialect, now)
        self.topics: set[str] = set()

    def listed(self, values: Iterable[str]) -> list[str]:
        return [*values]

    def announce(self, topic: str) -> None:
        self.topics.add(topic)


def payload_of(origin: str, topics: set[str]) -> str:
    """One notification's text: who sends it, and the topics or ``*`` for all of them."""
    payload = json.dumps([origin, *sorted(topics)], separators=(",", ":"))
    return payload if len(payload) <= _MAX_PAYLOAD else json.dumps([origin, ALL])


def topics_of(payload: str, origin: str) -> list[str]:
    """The topics of somebody else's notification; of our own or a strange one none."""
    try:
        sender, *topics = json.loads(payload)
    except (ValueError, TypeError):
        return []
    return [] if sender == origin else [str(topic) for topic in topics]


def quoted(text: str) -> str:
    """A text as a constant in SQL, whatever the server's settings."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
