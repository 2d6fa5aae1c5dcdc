"""Builders and checks for messages and workers that the queue's modules share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from ...backend import Intent, MessageStore, NewMessage
from ...codec import encode
from ...core.delivery import Done, Failed, Limits, Outcome, settle
from ...core.entities import Message
from ...http import QueueContinuation
from ...ids import new_id
from ...world import World
from ..clock import ManualClock

PREFIX: Final = "__wkf_workflow_"
QUEUE_NAME: Final = "__wkf_workflow_greet"
STEP_QUEUE_NAME: Final = "__wkf_step_add"
LEASE: Final = timedelta(seconds=30)
LONG_LEASE_MS: Final = 3_600_000
PATIENCE_S: Final = 20
"""How long a test waits for what must happen. Only a failing test waits so long."""

MILLISECOND: Final = timedelta(milliseconds=1)

T = TypeVar("T")


async def store_of(world: World) -> MessageStore:
    """The opened message store."""
    await world.backend.open()
    return world.backend.messages


def a_message(**fields: Any) -> NewMessage:
    """A message without a run, to be delivered now."""
    values: dict[str, Any] = {
        "message_id": new_id("msg"),
        "queue_name": QUEUE_NAME,
        "payload": encode({"hello": "world"}),
        "max_attempts": 3,
    }
    return NewMessage(**{**values, **fields})


async def put(world: World, **fields: Any) -> str:
    """Enqueue one message at the seam."""
    store = await store_of(world)
    return await store.enqueue(a_message(**fields))


async def claim(
    world: World,
    *,
    limit: int = 100,
    lease: timedelta = LEASE,
    serialize_runs: bool = False,
    prefixes: Sequence[str] | None = None,
) -> list[Message]:
    """Claim at the seam."""
    store = await store_of(world)
    claimed = await store.claim(
        limit=limit, lease=lease, serialize_runs=serialize_runs, prefixes=prefixes
    )
    return [*claimed.messages]


async def claim_one(world: World, message_id: str | None = None, **options: Any) -> Message:
    """Claim what must be exactly one message."""
    messages = await claim(world, **options)
    assert len(messages) == 1, messages
    assert message_id in (None, messages[0].message_id)
    return messages[0]


async def claimed_ids(world: World, **options: Any) -> list[str]:
    """Claim; the ids of what was taken, in order."""
    return [message.message_id for message in await claim(world, **options)]


async def end(
    world: World,
    message: Message,
    outcome: Outcome,
    now: datetime,
    *,
    spread: float = 0.0,
    limits: Limits | None = None,
    intent: Intent | None = None,
) -> bool:
    """End a delivery as the worker does: the rule decides, the store applies."""
    settlement = settle(message, outcome, now=now, spread=spread, limits=limits or Limits())
    store = await store_of(world)
    (settled,) = await store.settle([(settlement, intent)])
    return settled


async def complete(world: World, message_id: str, now: datetime) -> Message:
    """Claim the one ready message and complete it."""
    message = await claim_one(world, message_id)
    assert await end(world, message, Done(), now)
    return await world.messages.get(message_id)


async def exhaust(world: World, message_id: str, now: datetime) -> Message:
    """Claim the one ready message, which has one attempt, and fail it for good."""
    message = await claim_one(world, message_id)
    assert message.attempt == message.max_attempts
    assert await end(world, message, Failed(message="boom"), now)
    return await world.messages.get(message_id)


async def unfinished(world: World, run_id: str | None = None) -> list[Message]:
    """Messages that are pending or processing."""
    page = await world.messages.list(run_id=run_id, limit=1000)
    return [message for message in page.data if message.status in ("pending", "processing")]


async def eventually(read: Callable[[], Awaitable[T]], accept: Callable[[T], bool]) -> T:
    """Read again and again until the value is accepted; fails when it never is."""
    value = await read()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not accept(value):
                await asyncio.sleep(0.005)
                value = await read()
    except TimeoutError:
        raise AssertionError(f"never came true; last seen: {value!r}") from None
    return value


async def message_that(world: World, message_id: str, accept: Callable[[Message], bool]) -> Message:
    """The message, once it is as expected."""
    return await eventually(lambda: world.messages.get(message_id), accept)


async def message_in(world: World, message_id: str, status: str) -> Message:
    """The message, once it has the status."""
    return await message_that(world, message_id, lambda message: message.status == status)


async def lease_is_extended(world: World, message_id: str) -> None:
    """Wait until the lease ends a second later than it does now."""
    first = await world.messages.get(message_id)
    assert first.leased_until is not None
    renewed = first.leased_until + timedelta(milliseconds=1000)
    await message_that(
        world,
        message_id,
        lambda one: one.leased_until is not None and one.leased_until >= renewed,
    )


async def soon(event: asyncio.Event) -> None:
    """Wait for an event that must come."""
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


async def advance_until(
    clock: ManualClock, done: Callable[[], bool], *, seconds: float = 0.1
) -> None:
    """Let the manual clock run in small steps until something happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            clock.advance(seconds)
            await asyncio.sleep(0.002)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a handler was called with."""

    message: Any
    attempt: int
    queue_name: str
    message_id: str


Answer = QueueContinuation | BaseException | Callable[[], Awaitable[Any]] | None


class Recorder:
    """A handler that remembers its calls. Each call takes the next answer of the script, in the
    end None: a value to return, an exception to raise, or a function to await."""

    def __init__(self, *script: Answer) -> None:
        self.deliveries: list[Delivery] = []
        self._script = deque(script)
        self._came = asyncio.Event()

    async def __call__(
        self, message: object, *, attempt: int, queue_name: str, message_id: str
    ) -> QueueContinuation | None:
        self.deliveries.append(Delivery(message, attempt, queue_name, message_id))
        self._came.set()
        answer = self._script.popleft() if self._script else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is None or isinstance(answer, QueueContinuation):
            return answer
        result: QueueContinuation | None = await answer()
        return result

    @property
    def attempts(self) -> list[int]:
        return [delivery.attempt for delivery in self.deliveries]

    @property
    def ids(self) -> list[str]:
        return [delivery.message_id for delivery in self.deliveries]

    async def called(self, times: int = 1) -> None:
        """Wait until it was called so often."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.deliveries) < times:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.deliveries)} of {times} calls came") from None


class Gate:
    """An answer that says when it was reached, and waits to be let through."""

    def __init__(self, answer: QueueContinuation | None = None) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()
        self.left = self.was_cancelled = False
        self._answer = answer

    async def __call__(self) -> QueueContinuation | None:
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        self.left = True
        return self._answer


async def working(world: World, handler: Recorder, prefix: str = PREFIX) -> Recorder:
    """Register the handler and start the worker."""
    world.create_queue_handler(prefix, handler)
    await world.start()
    return handler
