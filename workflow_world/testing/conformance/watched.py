"""A backend in front of another: it remembers what was asked of it, and can be out of order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

from ...backend import Backend, Capabilities, ChunkStore, MessageStore, Notifier, RunStore
from ...errors import BackendError
from .queue_helpers import eventually


@dataclass(frozen=True, slots=True)
class Call:
    """One verb that was answered: ``chunks.page``, its keywords and its result."""

    verb: str
    options: dict[str, Any]
    result: Any


class Watched:
    """Satisfies ``backend.Backend``, once it is put around another.

    Attributes:
        calls: the verbs that were answered, in order.
        asked: the names of all verbs that were tried.
        failures: how many were refused.
    """

    def __init__(self) -> None:
        self._inner: Backend | None = None
        self._fails: Callable[[str], bool] = lambda verb: False
        self.calls: list[Call] = []
        self.asked: list[str] = []
        self.failures = 0

    def around(self, backend: Backend) -> Self:
        """Put this one in front: ``make_world(wrap=watched.around)``."""
        self._inner = backend
        return self

    def fail(self, fails: Callable[[str], bool]) -> None:
        """From now on the verbs for which ``fails`` is true raise BackendError."""
        self._fails = fails

    def go_down(self) -> None:
        """Every verb fails."""
        self.fail(lambda verb: True)

    def come_back(self) -> None:
        self.fail(lambda verb: False)

    async def failed(self, times: int = 1) -> None:
        """Wait until so many verbs were refused."""

        async def failures() -> int:
            return self.failures

        await eventually(failures, lambda count: count >= times)

    def results(self, verb: str) -> list[Any]:
        """What the verb answered, call by call."""
        return [call.result for call in self.calls if call.verb == verb]

    def check(self, verb: str) -> None:
        self.asked.append(verb)
        if self._fails(verb):
            self.failures += 1
            raise BackendError(f"{verb}: the database is away")

    @property
    def _backend(self) -> Backend:
        assert self._inner is not None
        return self._inner

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    @property
    def runs(self) -> RunStore:
        return cast("RunStore", _Store(self, "runs", self._backend.runs))

    @property
    def messages(self) -> MessageStore:
        return cast("MessageStore", _Store(self, "messages", self._backend.messages))

    @property
    def chunks(self) -> ChunkStore:
        return cast("ChunkStore", _Store(self, "chunks", self._backend.chunks))

    @property
    def notifier(self) -> Notifier:
        return self._backend.notifier

    async def open(self) -> None:
        self.check("open")
        await self._backend.open()
        self.calls.append(Call("open", {}, None))

    async def close(self) -> None:
        await self._backend.close()


class _Store:
    def __init__(self, backend: Watched, name: str, store: object) -> None:
        self._backend, self._name, self._store = backend, name, store

    def __getattr__(self, name: str) -> Any:
        verb, watched = getattr(self._store, name), f"{self._name}.{name}"
        backend = self._backend
        if not inspect.iscoroutinefunction(verb):

            def answer(*values: Any, **options: Any) -> Any:
                backend.check(watched)
                return verb(*values, **options)

            return answer

        async def answer_later(*values: Any, **options: Any) -> Any:
            backend.check(watched)
            result = await verb(*values, **options)
            backend.calls.append(Call(watched, options, result))
            return result

        return answer_later
