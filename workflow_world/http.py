"""The small HTTP vocabulary between a queue handler and whatever server it is mounted in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


class HTTPRequest(Protocol):
    """A request as the SDK's protocol has it; ``url`` is the target as it arrived."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def json(cls, value: object, *, status: int = 200) -> HTTPResponse:
        return cls(status, json.dumps(value).encode(), {"content-type": "application/json"})


HTTPHandler: TypeAlias = Callable[[HTTPRequest], Awaitable[HTTPResponse]]


@dataclass(frozen=True, slots=True)
class QueueContinuation:
    """A handler's request for its own message again, after ``delay_seconds`` (spec 4.8)."""

    delay_seconds: float
    idempotency_key: str | None = None


class Continuation(Protocol):
    """Anything shaped like ``QueueContinuation``; the SDK has a class of its own."""

    @property
    def delay_seconds(self) -> float: ...
    @property
    def idempotency_key(self) -> str | None: ...


class QueueHandler(Protocol):
    """What a registered handler looks like. ``message`` is the decoded payload."""

    async def __call__(
        self, message: object, *, attempt: int, queue_name: str, message_id: str
    ) -> Continuation | None: ...
