"""The shared state of all handles on one database, and the one way to change it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from weakref import WeakKeyDictionary

from .. import faults
from ..core.entities import Event, Hook, Message, Run, Step
from ..signals import Hub

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its chunks by index, and whether it is closed."""

    created_at: datetime
    chunks: dict[int, bytes] = field(default_factory=dict[int, bytes])
    closed: bool = False


class Transaction:
    """Changes that are all taken back when the section that makes them fails.

    Topics noted here are notified after the commit.
    """

    def __init__(self) -> None:
        self.topics: list[str] = []
        self._undo: list[Callable[[], object]] = []

    def put(self, table: dict[K, V], key: K, value: V) -> None:
        """Insert or replace a row."""
        faults.point("memory.put")
        if key in table:
            before = table[key]
            self._undo.append(lambda: table.__setitem__(key, before))
        else:
            self._undo.append(lambda: table.pop(key))
        table[key] = value

    def drop(self, table: dict[K, V], key: K) -> None:
        """Delete a row, if it is there."""
        faults.point("memory.drop")
        if key in table:
            before = table.pop(key)
            self._undo.append(lambda: table.__setitem__(key, before))

    def roll_back(self) -> None:
        for undo in reversed(self._undo):
            undo()


class MemoryDatabase:
    """Dicts of frozen rows, one lock for all of them, and the hubs of the open handles.

    Attributes:
        log: by run, then by position.
        steps, hooks, streams: by (run id, step id, hook id or stream name).
        last_claims: when a workflow message of a run was last claimed (spec 4.10); it outlives
            the message.
        workers: marks of the started workers.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.steps: dict[tuple[str, str], Step] = {}
        self.log: dict[str, dict[int, Event]] = {}
        self.hooks: dict[tuple[str, str], Hook] = {}
        self.messages: dict[str, Message] = {}
        self.last_claims: dict[str, datetime] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.workers: set[object] = set()
        self.hubs: WeakKeyDictionary[Hub, None] = WeakKeyDictionary()
        self.lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """Alone with the state: every change is kept at the end, or none after an exception.

        Nothing is awaited inside, so callers on any loop or thread wait for microseconds.
        """
        change = Transaction()
        with self.lock:
            try:
                yield change
                faults.point("memory.commit")
            except BaseException:
                change.roll_back()
                raise
        for topic in dict.fromkeys(change.topics):
            self.notify(topic)

    def notify(self, topic: str) -> None:
        """Wake the topic's subscriptions on every handle."""
        with self.lock:
            hubs = tuple(self.hubs)
        for hub in hubs:
            hub.notify(topic)
