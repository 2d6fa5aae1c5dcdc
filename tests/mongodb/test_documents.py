"""What stands in the documents, for whoever looks at them with other tools (spec 6.6)."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow_world import World
from workflow_world.core.delivery import Done, Limits, settle
from workflow_world.testing import ManualClock

from .conftest import MakeWorld
from .helpers import QUEUE, Stored, create_run, event

TOKEN = "t"  # noqa: S105

pytestmark = pytest.mark.anyio


async def fill(world: World) -> None:
    """A document of each kind, with little in it."""
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    await world.events.create("wrun_1", event("step_created", "s", stepName="s", input=b"in"))
    await world.events.create("wrun_1", event("hook_created", "h", token=TOKEN, metadata=None))
    await world.events.create("wrun_1", event("wait_created", "w", resumeAt="2090-01-01T00:00:00Z"))
    await world.streams.write("wrun_1", "out", b"x")
    await world.streams.close("wrun_1", "out")
    await world.queue(QUEUE, {"runId": "wrun_1"})


def values(found: Any) -> list[Any]:
    """All that is in an answer, names of fields and keys of maps included."""
    if is_dataclass(found):
        return [
            each for one in fields(found) for each in (one.name, *values(getattr(found, one.name)))
        ]
    if isinstance(found, dict):
        return [each for key, value in found.items() for each in (key, *values(value))]
    if isinstance(found, list | tuple):
        return [each for one in found for each in values(one)]
    return [found]


async def test_b199_what_is_absent_is_absent(world: World, stored: Stored) -> None:
    await fill(world)
    for name, documents in stored.everything().items():
        assert documents, name
        for document in documents:
            assert None not in document.values(), (name, document)
    run = stored["runs"].find_one({})
    assert not {"output", "error", "error_code", "expired_at", "completed_at"} & {*run}
    assert type(run["input"]) is bytes
    assert type(run["created_at"]) is datetime
    (message,) = stored.alive("queue_messages")
    assert type(message["payload"]) is bytes
    assert not {"lease_token", "leased_until", "held_key", "last_error"} & {*message}
    chunks = stored.alive("stream_chunks")
    assert [type(one.get("data")) for one in chunks] == [bytes, type(None)]


async def test_b199_no_field_becomes_null_when_it_goes(world: World, stored: Stored) -> None:
    await fill(world)
    messages = world.backend.messages
    claim = await messages.claim(
        limit=1, lease=timedelta(hours=1), serialize_runs=True, prefixes=None
    )
    (message,) = claim.messages
    done = settle(message, Done(), now=message.updated_at, spread=0, limits=Limits())
    assert await messages.settle([(done, None)]) == [True]
    await world.events.create("wrun_1", event("run_completed"))
    for name, documents in stored.everything().items():
        for document in documents:
            assert None not in document.values(), (name, document)


async def test_b199_answers_have_aware_dates_and_no_key_of_the_database(world: World) -> None:
    await fill(world)
    answers = [
        await world.runs.get("wrun_1"),
        await world.runs.list(),
        await world.steps.list("wrun_1"),
        await world.hooks.list("wrun_1"),
        await world.waits.list("wrun_1"),
        await world.events.list("wrun_1"),
        await world.messages.list(),
        await world.messages.stats(),
        await world.streams.get_chunks("wrun_1", "out"),
        await world.backend.runs.stranded(after=None, limit=9),
    ]
    found = values(answers)
    dates = [one for one in found if isinstance(one, datetime)]
    assert len(dates) > 10
    assert {one.tzinfo for one in dates} == {UTC}
    assert not {"_id", "entry", "held_key", "once", "open_wait", "gone_at"}.intersection(
        one for one in found if isinstance(one, str)
    )
    assert b"x" in found
    assert b"in" in found


async def test_b200_a_key_that_has_expired_does_not_block(
    make_world: MakeWorld, stored: Stored
) -> None:
    """Though its message is still there: nothing has pruned it."""
    clock = ManualClock()
    world = make_world(clock=clock)
    messages = world.backend.messages

    async def queued() -> str:
        return await world.queue(QUEUE, {"n": 1}, idempotency_key="k")

    first = await queued()
    claim = await messages.claim(
        limit=1, lease=timedelta(hours=1), serialize_runs=True, prefixes=None
    )
    (message,) = claim.messages
    done = settle(message, Done(), now=message.updated_at, spread=0, limits=Limits())
    assert await messages.settle([(done, None)]) == [True]
    clock.advance(1)
    assert await queued() == first
    clock.advance(10 * 365 * 86400)
    second = await queued()
    assert second != first
    assert {one["_id"] for one in stored.alive("queue_messages")} == {first, second}
    assert await queued() == second
