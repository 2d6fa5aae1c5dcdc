"""Putting messages in: names, durability, keys, delays, coalesced wake-ups (B114 to B124)."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ...codec import decode
from ...core.delivery import Again, Failed, Released
from ...errors import InvalidQueueNameError, InvalidRequestError
from ...world import World
from ..clock import ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    MILLISECOND,
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    claim,
    claim_one,
    claimed_ids,
    complete,
    end,
    exhaust,
    put,
)

KEY_TTL = timedelta(seconds=5)


@pytest.mark.anyio
async def test_b114_queue_stores_a_message_without_a_worker(
    world: World, rival: World, clock: ManualClock
) -> None:
    """queue returns a msg_ id, and the message is there for every handle."""
    message_id = await world.queue(
        QUEUE_NAME, {"runId": "wrun_1"}, deployment_id="dpl_1", headers={"x-trace": "t"}
    )
    assert message_id.startswith("msg_")
    message = await rival.messages.get(message_id)
    assert (message.status, message.attempt, message.max_attempts) == ("pending", 1, 3)
    assert (message.queue_name, message.deliveries) == (QUEUE_NAME, 0)
    assert (message.run_id, message.step_id) == ("wrun_1", None)
    assert (message.deployment_id, message.headers) == ("dpl_1", {"x-trace": "t"})
    assert message.available_at == message.created_at == message.updated_at == clock.now()
    assert (message.lease_token, message.leased_until, message.processed_at) == (None, None, None)
    assert decode(message.payload) == {"runId": "wrun_1"}


@pytest.mark.anyio
async def test_b114_message_survives_the_world_that_stored_it(
    world: World, make_world: MakeWorld
) -> None:
    """A message is still there for a World that comes later."""
    message_id = await world.queue(QUEUE_NAME, {"n": 1})
    later = make_world()
    if world.backend.capabilities.durable:
        await world.close()
    assert await claimed_ids(later) == [message_id]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "__wkf_workflow_greet",
        "__wkf_step_add",
        "__ns1_wkf_workflow_greet",
        "__a_wkf_step_add",
        "__wkf_workflow_./src/work.py#greet",
        "__wkf_workflow_grüße 世界",
        "__wkf_workflow__",
    ],
)
async def test_b115_queue_names_of_the_grammar_are_accepted(world: World, name: str) -> None:
    """Both kinds, with and without a namespace, any tail."""
    message_id = await world.queue(name, {})
    assert (await world.messages.get(message_id)).queue_name == name


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "",
        "greet",
        "__wkf_other_x",
        "__wkf_workflow_",
        "__wkf_step_",
        "__ns_wkf_workflow_",
        "__Foo_wkf_workflow_x",
        "__1a_wkf_workflow_x",
        "__a-b_wkf_workflow_x",
        "_wkf_workflow_x",
        "x__wkf_workflow_x",
        "__wkf_workflow_x\0",
    ],
)
async def test_b115_other_queue_names_are_refused(world: World, name: str) -> None:
    """Anything outside the grammar is a 400, also a ValueError, and stores nothing."""
    with pytest.raises(InvalidQueueNameError) as caught:
        await world.queue(name, {})
    assert caught.value.status == 400
    assert isinstance(caught.value, ValueError)
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_b116_stored_payload_is_exact(world: World) -> None:
    """Bytes, times, None, empty values and non-ASCII text are stored as they are."""
    payload: dict[str, Any] = {
        "runId": "wrun_1",
        "runInput": {"input": bytes(range(256)), "empty": b""},
        "at": datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
        "none": None,
        "values": [0, -1, 2**53, 1.5, "", False, True, [], {}],
        "text": "grüße 世界 🌍\n",
    }
    message_id = await world.queue(QUEUE_NAME, payload)
    message = await claim_one(world, message_id)
    assert decode(message.payload) == payload


@pytest.mark.anyio
async def test_b117_same_key_while_pending_gives_same_id(world: World, rival: World) -> None:
    """One row, the first payload and due time kept; the queue's name does not matter."""
    first = await world.queue(QUEUE_NAME, {"n": 1}, idempotency_key="k", delay_seconds=5)
    before = await world.messages.get(first)
    second = await rival.queue(STEP_QUEUE_NAME, {"n": 2}, idempotency_key="k", delay_seconds=0)
    other = await rival.queue(QUEUE_NAME, {"n": 3}, idempotency_key="K")
    assert second == first
    assert other != first
    assert await world.messages.get(first) == before
    assert len((await world.messages.list()).data) == 2


@pytest.mark.anyio
async def test_b118_same_key_while_processing_gives_same_id(
    world: World, rival: World, clock: ManualClock
) -> None:
    """A message being delivered holds its key, also when its lease has run out."""
    first = await world.queue(QUEUE_NAME, {"n": 1}, idempotency_key="k")
    await claim_one(world, first)
    assert await rival.queue(QUEUE_NAME, {"n": 2}, idempotency_key="k") == first
    clock.advance(31)
    assert await rival.queue(QUEUE_NAME, {"n": 3}, idempotency_key="k") == first


@pytest.mark.anyio
async def test_b119_key_is_held_for_its_time_after_completion(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Within the window the completed message's id comes back, after it a new message."""
    world = make_world(idempotency_ttl_ms=5_000)
    first = await world.queue(QUEUE_NAME, {"n": 1}, idempotency_key="k")
    clock.advance(60)
    await complete(world, first, clock.now())
    clock.advance(4.999)
    assert await world.queue(QUEUE_NAME, {"n": 2}, idempotency_key="k") == first
    assert await claim(world) == []
    clock.advance(0.002)
    second = await world.queue(QUEUE_NAME, {"n": 3}, idempotency_key="k")
    assert second != first
    assert decode((await claim_one(world, second)).payload) == {"n": 3}


@pytest.mark.anyio
async def test_b119_window_counts_from_the_latest_completion(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """A second message of the key opens a window of its own."""
    world = make_world(idempotency_ttl_ms=5_000)
    first = await world.queue(QUEUE_NAME, {}, idempotency_key="k")
    await complete(world, first, clock.now())
    clock.advance(6)
    second = await world.queue(QUEUE_NAME, {}, idempotency_key="k")
    await complete(world, second, clock.now())
    clock.advance(4)
    assert await world.queue(QUEUE_NAME, {}, idempotency_key="k") == second


@pytest.mark.anyio
async def test_b120_failed_message_frees_its_key(world: World, clock: ManualClock) -> None:
    """After a failure the same key stores a new message at once."""
    first = await put(world, idempotency_key="k", key_ttl=KEY_TTL, max_attempts=1)
    assert (await exhaust(world, first, clock.now())).status == "failed"
    second = await put(world, idempotency_key="k", key_ttl=KEY_TTL)
    assert second != first
    assert await claimed_ids(world) == [second]


@pytest.mark.anyio
async def test_b121_racing_enqueues_with_one_key_store_one_message(
    world: World, rival: World
) -> None:
    """50 at once in two Worlds: one row, one id."""
    ids = await asyncio.gather(
        *(
            (world, rival)[number % 2].queue(QUEUE_NAME, {"n": number}, idempotency_key="k")
            for number in range(50)
        )
    )
    assert len(set(ids)) == 1
    assert [message.message_id for message in (await world.messages.list()).data] == [ids[0]]


@pytest.mark.anyio
async def test_b122_without_a_key_nothing_is_deduplicated(world: World) -> None:
    """Equal messages without a key are different messages."""
    ids = [await world.queue(QUEUE_NAME, {"n": 1}) for _ in range(3)]
    assert len(set(ids)) == 3
    assert len(await claim(world)) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["", "x" * 513, "a\0b"])
async def test_b122_unusable_key_is_refused(world: World, key: str) -> None:
    """A key is 1 to 512 characters without NUL; nothing is stored otherwise."""
    with pytest.raises(InvalidRequestError):
        await world.queue(QUEUE_NAME, {}, idempotency_key=key)
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"k": "\ud800"}},
        {"headers": {"\ud800": "v"}},
        {"headers": {"k": b"v"}},
        {"headers": {b"k": "v"}},
        {"deployment_id": "\ud800"},
        {"deployment_id": 5},
    ],
)
async def test_headers_and_deployment_that_are_no_text_are_refused(
    world: World, wrong: dict[str, Any]
) -> None:
    """What no database stores as text, or no request carries: 400, and nothing is stored."""
    with pytest.raises(InvalidRequestError):
        await world.queue(QUEUE_NAME, {}, **wrong)
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [0.01, 0.25, 1.5, 90_000.0])
async def test_b123_delayed_message_is_never_early(
    world: World, clock: ManualClock, delay: float
) -> None:
    """Not a millisecond before it is due; then at once."""
    message_id = await world.queue(QUEUE_NAME, {}, delay_seconds=delay)
    due_at = (await world.messages.get(message_id)).available_at
    assert due_at == clock.now() + timedelta(seconds=delay)
    clock.advance(delay - 0.001)
    assert await claim(world) == []
    clock.advance(0.001)
    await claim_one(world, message_id)


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [None, 0, 0.0, -1, -0.5, -math.inf])
async def test_b123_no_or_negative_delay_means_now(world: World, delay: float | None) -> None:
    """Zero and negative delays are due at once."""
    message_id = await world.queue(QUEUE_NAME, {}, delay_seconds=delay)
    await claim_one(world, message_id)


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [math.inf, math.nan])
async def test_b123_delay_that_is_no_number_of_seconds_is_refused(
    world: World, delay: float
) -> None:
    """Infinity and NaN store nothing."""
    with pytest.raises(InvalidRequestError):
        await world.queue(QUEUE_NAME, {}, delay_seconds=delay)
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_b123_fraction_of_a_millisecond_is_rounded_up(
    world: World, clock: ManualClock
) -> None:
    """A delay of 0.4 ms is due one millisecond later, not now."""
    message_id = await world.queue(QUEUE_NAME, {}, delay_seconds=0.0004)
    assert (await world.messages.get(message_id)).available_at == clock.now() + MILLISECOND


@pytest.mark.anyio
async def test_b124_idempotency_survives_a_restart(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """Pending and just completed messages hold their keys for a World that comes later."""
    first = make_world(idempotency_ttl_ms=5_000)
    done = await first.queue(QUEUE_NAME, {}, idempotency_key="done")
    await complete(first, done, clock.now())
    pending = await first.queue(QUEUE_NAME, {}, idempotency_key="pending", delay_seconds=60)
    second = make_world(idempotency_ttl_ms=5_000)
    if first.backend.capabilities.durable:
        await first.close()
    assert await second.queue(QUEUE_NAME, {}, idempotency_key="done") == done
    assert await second.queue(QUEUE_NAME, {}, idempotency_key="pending") == pending


WAKE_UP: dict[str, Any] = {
    "runId": "wrun_1",
    "requestedAt": "2030-01-01T00:00:00.000Z",
    "traceCarrier": {},
}


@pytest.mark.anyio
async def test_wake_ups_of_a_run_are_coalesced_while_one_is_pending(
    world: World, rival: World
) -> None:
    """Design 7: one pending, unclaimed wake-up of a run stands for all that come after."""
    first = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    assert await rival.queue(QUEUE_NAME, WAKE_UP) == first
    assert await world.queue(QUEUE_NAME, {"runId": "wrun_2"}) != first
    assert len((await world.messages.list(run_id="wrun_1")).data) == 1


@pytest.mark.anyio
async def test_wake_up_in_another_queue_does_not_stand_for_it(world: World) -> None:
    """Nobody may ever serve that queue: the run's own wake-up is delivered all the same."""
    other = await world.queue("__mistyped_wkf_workflow_greet", {"runId": "wrun_1"})
    ours = [await world.queue(QUEUE_NAME, {"runId": "wrun_1"}) for _ in range(2)]
    assert other not in ours
    stored = (await world.messages.list(run_id="wrun_1")).data
    assert [one.message_id for one in stored if one.is_wake_up] == [other]
    assert {one.message_id for one in stored} == {other, *ours}
    claimed = await claim(world, prefixes=[PREFIX])
    assert {one.message_id for one in claimed} == {*ours}


@pytest.mark.anyio
async def test_racing_wake_ups_in_two_queues_are_both_stored(world: World, rival: World) -> None:
    """Whichever comes first, the other one does not vanish in it."""
    names = [QUEUE_NAME, "__other_wkf_workflow_greet"]
    for number in range(10):
        ids = await asyncio.gather(
            world.queue(names[number % 2], {"runId": f"wrun_{number}"}),
            rival.queue(names[1 - number % 2], {"runId": f"wrun_{number}"}),
        )
        assert len({*ids}) == 2


@pytest.mark.anyio
async def test_wake_up_after_a_claim_is_stored(world: World, clock: ManualClock) -> None:
    """Whoever claimed the earlier one may have read the log already."""
    first = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    await claim_one(world, first)
    second = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    assert second != first
    await complete(world, second, clock.now())
    assert await world.queue(QUEUE_NAME, {"runId": "wrun_1"}) not in (first, second)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "outcome",
    [Again(delay_seconds=0), Failed(message="boom"), Released()],
    ids=["continued", "failed", "released"],
)
async def test_message_that_came_back_is_no_wake_up_any_more(
    world: World, clock: ManualClock, outcome: Again | Failed | Released
) -> None:
    """A message that returned to pending does not stand for a later wake-up."""
    first = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    message = await claim_one(world, first)
    assert await end(world, message, outcome, clock.now())
    clock.advance(2)
    assert (await world.messages.get(first)).status == "pending"
    assert await world.queue(QUEUE_NAME, {"runId": "wrun_1"}) != first


@pytest.mark.anyio
async def test_reaped_message_is_no_wake_up_any_more(world: World, clock: ManualClock) -> None:
    """The same for a message whose lease ran out."""
    first = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    await claim_one(world, first)
    clock.advance(31)
    assert await world.backend.messages.reap() == 1
    assert await world.queue(QUEUE_NAME, {"runId": "wrun_1"}) != first


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("message", "options"),
    [
        ({"runId": "wrun_1", "stepId": "step_1", "stepName": "add"}, {}),
        ({"runId": "wrun_1", "runInput": {"input": b"in"}}, {}),
        ({"runId": "wrun_1", "hookInput": {"payload": b"in"}}, {}),
        ({"runId": "wrun_1", "other": 1}, {}),
        ({"runId": "wrun_1"}, {"delay_seconds": 1}),
        ({"runId": "wrun_1"}, {"idempotency_key": "k"}),
        ({"runId": "wrun_1"}, {"headers": {"x-trace": "1"}}),
        ({"__healthCheck": True, "correlationId": "c", "runId": "wrun_1"}, {}),
    ],
    ids=["step", "run input", "hook input", "unknown", "delay", "key", "headers", "health check"],
)
async def test_only_bare_wake_ups_are_coalesced(
    world: World, message: dict[str, object], options: dict[str, Any]
) -> None:
    """A message that carries anything, waits, has a key or headers is stored, and no stand-in."""
    first = await world.queue(QUEUE_NAME, message, **options)
    second = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    assert second != first
    other_key: dict[str, Any] = {"idempotency_key": "k2"} if "idempotency_key" in options else {}
    third = await world.queue(QUEUE_NAME, message, **{**options, **other_key})
    assert third not in (first, second)


@pytest.mark.anyio
async def test_racing_wake_ups_of_a_run_store_one_message(world: World, rival: World) -> None:
    """50 at once in two Worlds while nobody claims: one row."""
    ids = await asyncio.gather(
        *((world, rival)[number % 2].queue(QUEUE_NAME, {"runId": "wrun_1"}) for number in range(50))
    )
    assert len(set(ids)) == 1
