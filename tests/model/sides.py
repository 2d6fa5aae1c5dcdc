"""The two sides that a history is played on, and how their answers are made comparable."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from workflow_world import mongodb
from workflow_world.backend import Backend, Presence
from workflow_world.core.entities import Message
from workflow_world.errors import WorldError
from workflow_world.settings import resolve
from workflow_world.sql import open_backend
from workflow_world.testing import ManualClock
from workflow_world.world import World

HANDLES: Final = 2

Ask = Callable[["Side", World], Awaitable[Any]]


@dataclass(frozen=True)
class Refused:
    """An error as an answer: what a caller can see of it."""

    kind: type[WorldError]
    status: int
    code: str | None
    text: str
    retry_after: int | None


def opener(url: str, clock: ManualClock, replicas: Path | None = None) -> Callable[[], Backend]:
    """Opens handles. With a folder for ``replicas`` each is one with a file of its own, which is
    brought up to date before it is read, so it has what the other handle has just written."""
    numbers = itertools.count()

    def connect() -> Backend:
        about: dict[str, Any] = {"clock": clock, "environ": {}, "shared": False}
        if url.startswith("mongodb:"):
            return mongodb.open_backend(url, **about)
        if replicas is None:
            return open_backend(url, **about)
        return open_backend(f"file:{replicas / f'{next(numbers)}.db'}", sync_url=url, **about)

    return connect


class Side:
    """Two handles on one database. Message ids are random, so each gets a label in the order of
    their creation; what is compared has labels in their place, and no lease token."""

    def __init__(self, name: str, connect: Callable[[], Backend], clock: ManualClock) -> None:
        self.name = name
        self._connect, self._clock = connect, clock
        self._abandoned: list[World] = []
        self._labels: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self.worlds = [self._new() for _ in range(HANDLES)]
        self.presences: dict[int, Presence] = {}

    def _new(self) -> World:
        settings, _ = resolve({"idempotency_ttl_ms": 60_000, "max_retries": 2}, {})
        return World(self._connect(), settings, clock=self._clock)

    # -- what a history does to handles

    async def restart(self, handle: int) -> None:
        """A clean end and a new process."""
        self.leave(handle)
        await self.worlds[handle].close()
        self.worlds[handle] = self._new()

    def crash(self, handle: int) -> None:
        """The handle is never used again nor closed; of a dead process's locks none is left."""
        self.leave(handle)
        self._abandoned.append(self.worlds[handle])
        self.worlds[handle] = self._new()

    async def enter(self, handle: int) -> None:
        await self.worlds[handle].backend.open()
        self.presences[handle] = await self.worlds[handle].backend.messages.enter()

    def leave(self, handle: int) -> None:
        if (presence := self.presences.pop(handle, None)) is not None:
            presence.close()

    async def close(self) -> None:
        for handle in range(HANDLES):
            self.leave(handle)
        for world in (*self.worlds, *self._abandoned):
            await world.close()

    # -- labels

    def label(self, message_id: str) -> str:
        if message_id not in self._labels:
            label = f"message {len(self._labels) + 1}"
            self._labels[message_id], self._ids[label] = label, message_id
        return self._labels[message_id]

    def id_of(self, label: str) -> str:
        return self._ids[label]

    def unlabelled(self, message: Message) -> Message:
        return replace(
            message,
            message_id=self.label(message.message_id),
            lease_token=None if message.lease_token is None else "a token",
        )

    def comparable(self, answer: object) -> Any:
        if isinstance(answer, Message):
            return self.unlabelled(answer)
        if isinstance(answer, WorldError):
            text = str(answer)
            for message_id, label in self._labels.items():
                text = text.replace(message_id, label)
            seconds = getattr(answer, "retry_after", None)
            return Refused(type(answer), answer.status, answer.code, text, seconds)
        if isinstance(answer, list | tuple):
            return [self.comparable(one) for one in answer]
        return answer

    async def ask(self, handle: int, ask: Ask) -> Any:
        """The raw answer; a typed error counts as one."""
        try:
            return await ask(self, self.worlds[handle])
        except WorldError as error:
            return error
