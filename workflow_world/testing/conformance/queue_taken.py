"""From a claim's commit to its handler: an event loop that is busy hears of it late (B138)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from ...backend import MessageStore
from ...core.delivery import Done
from ...core.entities import Message
from ...errors import BackendError
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    LEASE,
    QUEUE_NAME,
    Gate,
    Recorder,
    a_message,
    claim,
    claim_one,
    end,
    lease_is_extended,
    message_in,
    put,
    soon,
    store_of,
    working,
)
from .watched import Watched


class LateClaims(Watched):
    """A worker hears of what it has claimed after ``meanwhile``: when the gate is opened."""

    def __init__(self, meanwhile: Callable[[], Awaitable[Any]] | None = None) -> None:
        super().__init__()
        self.gate = Gate()
        self._meanwhile = meanwhile or self.gate

    @property
    def messages(self) -> MessageStore:
        return cast("MessageStore", _Late(super().messages, self._meanwhile))


class _Late:
    def __init__(self, store: MessageStore, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._store, self._meanwhile = store, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim(self, **options: Any) -> Any:
        found = await self._store.claim(**options)
        if found.messages:
            await self._meanwhile()
        return found


@pytest.mark.anyio
async def test_a_claim_tells_what_it_took(world: World) -> None:
    """Once it is committed, if it took anything; so does one that stores its message itself."""
    store, told = await store_of(world), list[Sequence[Message]]()
    options: dict[str, Any] = {"lease": LEASE, "serialize_runs": False, "taken": told.append}
    for _ in range(2):
        await put(world)
    found = await store.claim(limit=5, prefixes=None, **options)
    assert len(found.messages) == 2
    assert [[*one] for one in told] == [[*found.messages]]
    assert not (await store.claim(limit=5, prefixes=None, **options)).messages
    late = a_message(delay=timedelta(seconds=1))
    assert (await store.enqueue_and_claim(late, **options)).claimed is None
    assert len(told) == 1
    stored = await store.enqueue_and_claim(a_message(), **options)
    assert [*told[1]] == [stored.claimed]


@pytest.mark.anyio
async def test_b138_lease_is_held_before_the_worker_hears_of_its_claim(
    make_world: MakeWorld,
) -> None:
    """A handler may block the event loop for leases just after the commit."""
    late = LateClaims()
    world = make_world(real_time=True, lock_duration_ms=900, wrap=late.around)
    rival = make_world(real_time=True)
    message_id = await rival.queue(QUEUE_NAME, {})
    handler = await working(world, Recorder())
    await soon(late.gate.entered)
    await lease_is_extended(rival, message_id)
    assert await claim(rival) == []
    late.gate.opened.set()
    done = await message_in(rival, message_id, "completed")
    assert (handler.ids, done.deliveries) == ([message_id], 1)


@pytest.mark.anyio
async def test_b138_message_that_was_lost_before_its_handler_began_is_left_alone(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Another worker has it, or has even done it."""
    late = LateClaims()
    world = make_world(lock_duration_ms=1000, wrap=late.around)
    rival = make_world()
    message_id = await rival.queue(QUEUE_NAME, {})
    handler = await working(world, Recorder())
    await soon(late.gate.entered)
    late.fail(lambda verb: verb == "messages.extend")
    clock.advance(2)
    taken = await claim_one(rival, message_id)
    late.come_back()
    late.gate.opened.set()
    assert await end(rival, taken, Done(), clock.now())
    second = await world.queue(QUEUE_NAME, {"n": 2})
    await handler.called(1)
    await message_in(rival, second, "completed")
    assert handler.ids == [second]
    assert (await rival.messages.get(message_id)).deliveries == 2


@pytest.mark.anyio
async def test_b138_claim_whose_answer_is_lost_is_held_by_nobody(make_world: MakeWorld) -> None:
    """Its worker does not know what to deliver, so the lease ends by itself."""
    answers = iter([BackendError("the answer was lost")])

    async def lose() -> None:
        for error in answers:
            raise error

    late = LateClaims(lose)
    world = make_world(real_time=True, lock_duration_ms=900, poll_interval_ms=20, wrap=late.around)
    rival = make_world(real_time=True)
    message_id = await rival.queue(QUEUE_NAME, {})
    handler = await working(world, Recorder())
    done = await message_in(rival, message_id, "completed")
    assert (handler.ids, done.deliveries) == ([message_id], 2)
