"""What the reference backend adds to the conformance suite: names, isolation, taking back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ledger import CREATION, RUN

from workflow_world import faults
from workflow_world.backend import (
    Backend,
    ChunkStore,
    Lease,
    MessageStore,
    NewMessage,
    Retention,
    RunStore,
)
from workflow_world.core.decide import intent_for
from workflow_world.core.delivery import Again, Done, Limits, settle
from workflow_world.core.events import NewEvent, checked
from workflow_world.core.rules import Owner
from workflow_world.errors import ConfigurationError, EntityConflictError
from workflow_world.memory import MemoryBackend, MemoryDatabase, open_backend
from workflow_world.registry import opener_for
from workflow_world.testing import ManualClock

pytestmark = pytest.mark.anyio
LEASE = timedelta(seconds=30)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def backend(clock: ManualClock) -> MemoryBackend:
    return MemoryBackend(MemoryDatabase(), clock=clock)


def intent(event_type: str, correlation_id: str | None = None, **data: Any) -> Any:
    event = NewEvent(event_type=event_type, correlation_id=correlation_id, event_data=data)
    return intent_for(RUN, checked(RUN, event), owner=Owner())


def message(message_id: str, **changes: Any) -> NewMessage:
    return replace(
        NewMessage(
            message_id=message_id, queue_name="__wkf_workflow_x", payload=b"\xa0", max_attempts=3
        ),
        **changes,
    )


async def claim_one(backend: MemoryBackend) -> Any:
    claim = await backend.messages.claim(limit=1, lease=LEASE, serialize_runs=True, prefixes=None)
    return claim.messages[0] if claim.messages else None


@contextmanager
def failing_at(number: int) -> Iterator[None]:
    """The ``number``-th change of the next transaction fails."""
    left = number

    def fail(name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise RuntimeError(f"armed at {name}")

    with faults.armed(fail):
        yield


def test_the_protocols_are_satisfied(backend: MemoryBackend) -> None:
    handle: Backend = backend
    assert isinstance(handle, Backend)
    assert isinstance(handle.runs, RunStore)
    assert isinstance(handle.messages, MessageStore)
    assert isinstance(handle.chunks, ChunkStore)
    capabilities = handle.capabilities
    assert (capabilities.name, capabilities.durable, capabilities.cross_process) == (
        "memory",
        False,
        False,
    )


async def test_names_of_databases(clock: ManualClock) -> None:
    def opened(url: str) -> MemoryBackend:
        return open_backend(url, clock=clock, environ={})

    one, same, other = opened("memory://one"), opened("memory://one"), opened("memory://other")
    fresh, fresh_too = opened("memory:"), opened("memory://")
    await one.messages.enqueue(message("m"))
    await fresh.messages.enqueue(message("m"))
    assert await same.messages.get_message("m") is not None
    assert await other.messages.get_message("m") is None
    assert await fresh_too.messages.get_message("m") is None
    assert opener_for("memory://one") is open_backend


@pytest.mark.parametrize("url", ["memory:name", "memory:/a/b", "memory://a?b=c", "file:x", ""])
def test_urls_that_cannot_be(url: str, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError):
        open_backend(url, clock=clock, environ={})


def test_there_are_no_options(clock: ManualClock) -> None:
    with pytest.raises(TypeError, match="colour"):
        open_backend("memory:", clock=clock, environ={}, colour="red")  # type: ignore[call-arg]


async def test_values_are_not_shared(backend: MemoryBackend) -> None:
    """B014: neither through what was given nor through what was returned."""
    given: dict[str, Any] = {"list": [1], "data": b""}
    result = await backend.runs.write(intent("run_created", **{**CREATION, "input": given}))
    given["list"].append("mine")
    for run in (result.run, await backend.runs.get_run(RUN)):
        assert run is not None
        run.attributes["mine"] = "x"  # type: ignore[index]
    read = await backend.runs.get_run(RUN)
    assert read is not None
    assert isinstance(read.input, dict)
    read.input["more"] = 1
    again = await backend.runs.get_run(RUN)
    assert again is not None
    assert again.input == {"list": [1], "data": b""}
    assert again.attributes == {}


@pytest.mark.parametrize("number", range(1, 8))
async def test_a_failed_write_leaves_nothing(backend: MemoryBackend, number: int) -> None:
    """B097: the run with its hook, wait and log, at each change of a write that touches all."""
    for event in (
        intent("run_created", **CREATION),
        intent("hook_created", "h", token="t"),  # noqa: S106
        intent("wait_created", "w", resumeAt="2030-01-03T00:00:00Z"),
    ):
        await backend.runs.write(event)
    before = await everything(backend)
    end = intent("run_completed", output=b"out")
    with failing_at(number):
        if number <= 5:
            with pytest.raises(RuntimeError, match="armed"):
                await backend.runs.write(end)
            assert await everything(backend) == before
        else:
            await backend.runs.write(end)
            assert await everything(backend) != before


async def everything(backend: MemoryBackend) -> tuple[object, ...]:
    database = backend.runs._database
    log = {run_id: dict(events) for run_id, events in database.log.items()}
    return dict(database.runs), dict(database.hooks), log, dict(database.messages)


async def test_a_settlement_and_its_intent_are_one(
    backend: MemoryBackend, clock: ManualClock
) -> None:
    await backend.runs.write(intent("run_created", **CREATION))
    await backend.messages.enqueue(message("m", run_id=RUN))
    claimed = await claim_one(backend)
    done = settle(claimed, Done(), now=clock.now(), spread=0, limits=Limits())
    before = await everything(backend)
    failed = intent("run_failed", error=b"e")
    for number in (1, 2, 3):
        with failing_at(number), pytest.raises(RuntimeError):
            await backend.messages.settle([(done, failed)])
        assert await everything(backend) == before
    assert await backend.messages.settle([(done, failed), (done, failed)]) == [True, False]
    run = await backend.runs.get_run(RUN)
    assert run is not None
    assert run.status == "failed"
    assert (
        len(
            await backend.messages.list_messages(
                status="completed", run_id=RUN, queue_name=None, after=None, limit=5
            )
        )
        == 1
    )


async def test_a_refused_intent_does_not_stop_its_settlement(
    backend: MemoryBackend, clock: ManualClock
) -> None:
    await backend.messages.enqueue(message("m", run_id=RUN))
    done = settle(await claim_one(backend), Done(), now=clock.now(), spread=0, limits=Limits())
    assert await backend.messages.settle([(done, intent("run_failed", error=b"e"))]) == [True]


async def test_a_held_key_completes_the_continuation(
    backend: MemoryBackend, clock: ManualClock
) -> None:
    """B131: the message ends, with the key that it had."""
    await backend.messages.enqueue(message("m", idempotency_key="own"))
    claimed = await claim_one(backend)
    await backend.messages.enqueue(message("n", idempotency_key="other"))
    outcome = Again(delay_seconds=5, idempotency_key="other")
    again = settle(claimed, outcome, now=clock.now(), spread=0, limits=Limits())
    assert await backend.messages.settle([(again, None)]) == [True]
    ended = await backend.messages.get_message("m")
    assert ended is not None
    assert (ended.status, ended.idempotency_key, ended.lease_token) == ("completed", "own", None)


async def test_leases_of_closed_workers_are_freed_at_once(backend: MemoryBackend) -> None:
    """Design 7: only when nobody else is at work."""
    first = await backend.messages.enter()
    await backend.messages.enqueue(message("m"))
    taken = await claim_one(backend)
    second = await backend.messages.enter()
    assert await claim_one(backend) is None
    lease = Lease(message_id="m", token=taken.lease_token)
    assert backend.messages.extend([lease], LEASE) == frozenset()
    for presence in (first, second, second):
        presence.close()
    third = await backend.messages.enter()
    assert (await claim_one(backend)).message_id == "m"
    assert backend.messages.extend([lease], LEASE) == {"m"}
    third.close()


async def test_the_last_claim_of_a_run_outlives_its_message(
    backend: MemoryBackend, clock: ManualClock
) -> None:
    await backend.runs.write(intent("run_created", **CREATION))
    await backend.messages.enqueue(message("m", run_id=RUN))
    claimed = await claim_one(backend)
    at = clock.now()
    done = settle(claimed, Done(), now=at, spread=0, limits=Limits())
    await backend.messages.settle([(done, None)])
    clock.advance(10)
    none = Retention(completed=timedelta(0), failed=timedelta(0))
    assert await backend.messages.prune(none, limit=5) == 1
    facts, more = await backend.runs.stranded(after=None, limit=5)
    assert ([one.last_claim_at for one in facts], more) == ([at], None)


async def test_handles_wake_each_other_across_event_loops(clock: ManualClock) -> None:
    """A subscription on this loop, a write from a handle of another thread's loop."""
    database = MemoryDatabase()
    here = MemoryBackend(database, clock=clock)
    waiting = here.notifier.subscribe("queue")

    def write() -> None:
        there = MemoryBackend(database, clock=clock)
        asyncio.run(there.messages.enqueue(message("m")))  # type: ignore[arg-type]

    thread = threading.Thread(target=write)
    thread.start()
    async with asyncio.timeout(10):
        assert await waiting.wait(None)
    thread.join()
    waiting.close()
    assert (await claim_one(here)).message_id == "m"


async def test_topics_are_notified_after_a_commit_only(backend: MemoryBackend) -> None:
    await backend.runs.write(intent("run_created", **CREATION))
    waits = {
        topic: backend.notifier.subscribe(topic)
        for topic in ("queue", f"run:{RUN}", f"stream:{RUN}:s")
    }
    with failing_at(2), pytest.raises(RuntimeError):
        await backend.runs.write(intent("run_completed"))
    with failing_at(2), pytest.raises(RuntimeError):
        await backend.messages.enqueue(message("m"))
    assert not [topic for topic, one in waits.items() if await one.wait(0)]
    await backend.runs.write(intent("run_completed"))
    await backend.messages.enqueue(message("m"))
    await backend.chunks.append(RUN, "s", [b"1"])
    assert [await one.wait(0) for one in waits.values()] == [True] * 3
    await backend.chunks.close(RUN, "s")
    assert await waits[f"stream:{RUN}:s"].wait(0)
    await backend.chunks.close(RUN, "s")
    assert not await waits[f"stream:{RUN}:s"].wait(0)
    with pytest.raises(EntityConflictError):
        await backend.runs.write(intent("run_completed"))
    assert not await waits[f"run:{RUN}"].wait(0)


async def test_a_wake_up_that_was_claimed_is_none_any_more(
    backend: MemoryBackend, clock: ManualClock
) -> None:
    """However it came back to pending: at most one pending wake-up of a run exists."""
    wake_up = message("m", run_id=RUN, is_wake_up=True)
    await backend.messages.enqueue(wake_up)
    assert await backend.messages.enqueue(replace(wake_up, message_id="n")) == "m"
    assert (await claim_one(backend)).is_wake_up
    assert await backend.messages.enqueue(replace(wake_up, message_id="n")) == "n"
    clock.advance(LEASE.total_seconds())
    assert await backend.messages.reap() == 1
    assert await backend.messages.enqueue(replace(wake_up, message_id="o")) == "n"
    rows = await backend.messages.list_messages(
        status="pending", run_id=RUN, queue_name=None, after=None, limit=5
    )
    assert [(row.message_id, row.is_wake_up) for row in rows] == [("m", False), ("n", True)]
