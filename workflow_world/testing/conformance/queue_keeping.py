"""Looking after the queue: retention, retry, delete, lists and counts (B156, B157), at the seam."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ...backend import Retention
from ...core.delivery import Again, Done, Failed
from ...errors import EntityConflictError, InvalidCursorError, MessageNotFoundError
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld
from .queue_helpers import (
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    claim_one,
    complete,
    end,
    exhaust,
    put,
    store_of,
)

RETENTION = Retention(completed=timedelta(seconds=3600), failed=timedelta(days=7))


@pytest.mark.anyio
async def test_b156_finished_messages_are_pruned_after_their_time(
    world: World, clock: ManualClock
) -> None:
    """Completed ones after an hour, failed ones after a week."""
    completed = await put(world)
    await complete(world, completed, clock.now())
    failed = await put(world, max_attempts=1)
    await exhaust(world, failed, clock.now())
    store = await store_of(world)
    clock.advance(3599)
    assert await store.prune(RETENTION, limit=10) == 0
    clock.advance(2)
    assert await store.prune(RETENTION, limit=10) == 1
    with pytest.raises(MessageNotFoundError):
        await world.messages.get(completed)
    clock.advance(7 * 86_400)
    assert await store.prune(RETENTION, limit=10) == 1
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_b156_unfinished_messages_are_never_pruned(world: World, clock: ManualClock) -> None:
    """However old: pending, delayed, processing, continued and retried ones stay."""
    processing = await put(world)
    await claim_one(world, processing)
    continued = await put(world)
    message = await claim_one(world, continued)
    assert await end(world, message, Again(delay_seconds=0), clock.now())
    retried = await put(world, available_at=START - timedelta(seconds=9), max_attempts=1)
    message = await claim_one(world, retried, limit=1)
    assert await end(world, message, Failed(message="boom"), clock.now())
    await world.messages.retry(retried)
    pending = await put(world)
    delayed = await put(world, delay=timedelta(days=365))
    clock.advance(30 * 86_400)
    store = await store_of(world)
    assert await store.prune(RETENTION, limit=100) == 0
    kept = {one.message_id for one in (await world.messages.list()).data}
    assert kept == {processing, continued, retried, pending, delayed}


@pytest.mark.anyio
async def test_b156_prune_is_bounded(world: World, clock: ManualClock) -> None:
    """At most ``limit`` at once; the number says whether there may be more."""
    for _ in range(5):
        await complete(world, await put(world), clock.now())
    clock.advance(4000)
    store = await store_of(world)
    assert [await store.prune(RETENTION, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.anyio
async def test_b157_failed_message_is_delivered_again(world: World, clock: ManualClock) -> None:
    """retry: attempt 1, due now, with all attempts before it again."""
    message_id = await put(world, max_attempts=2, idempotency_key="k", run_id="wrun_1")
    stored = await world.messages.get(message_id)
    for _ in range(2):
        message = await claim_one(world, message_id)
        assert await end(world, message, Failed(message="boom"), clock.now())
        clock.advance(5)
    assert (await world.messages.get(message_id)).status == "failed"
    await world.messages.retry(message_id)
    again = await world.messages.get(message_id)
    assert (again.status, again.attempt, again.deliveries) == ("pending", 1, 0)
    assert (again.available_at, again.processed_at) == (clock.now(), None)
    assert (await claim_one(world, message_id)).payload == stored.payload
    assert await put(world, idempotency_key="k") == message_id


@pytest.mark.anyio
async def test_b157_completed_message_can_be_delivered_again(
    world: World, clock: ManualClock
) -> None:
    """retry works for a completed one too."""
    message_id = await put(world)
    await complete(world, message_id, clock.now())
    await world.messages.retry(message_id)
    assert (await claim_one(world, message_id)).attempt == 1


@pytest.mark.anyio
async def test_b157_retry_is_refused_where_it_makes_no_sense(
    world: World, clock: ManualClock
) -> None:
    """404 for an unknown one; 409 for an unfinished one, or when its key is in use."""
    with pytest.raises(MessageNotFoundError):
        await world.messages.retry("msg_none")
    failed = await put(world, idempotency_key="k", max_attempts=1)
    await exhaust(world, failed, clock.now())
    holder = await put(world, idempotency_key="k")
    for message_id in (failed, holder):
        with pytest.raises(EntityConflictError):
            await world.messages.retry(message_id)
    assert (await world.messages.get(failed)).status == "failed"
    await complete(world, holder, clock.now())
    await world.messages.retry(failed)
    assert (await world.messages.get(failed)).status == "pending"


@pytest.mark.anyio
async def test_delete_removes_what_is_not_being_delivered(world: World, clock: ManualClock) -> None:
    """Pending, finished, and left behind by an expired lease; not one in a live lease."""
    pending, done = await put(world, delay=timedelta(seconds=1)), await put(world)
    await complete(world, done, clock.now())
    leased = await put(world)
    await claim_one(world, leased)
    with pytest.raises(EntityConflictError):
        await world.messages.delete(leased)
    await world.messages.delete(pending)
    await world.messages.delete(done)
    assert [one.message_id for one in (await world.messages.list()).data] == [leased]
    clock.advance(31)
    await world.messages.delete(leased)
    with pytest.raises(MessageNotFoundError):
        await world.messages.delete(leased)


@pytest.mark.anyio
async def test_deleted_message_frees_its_key(world: World) -> None:
    """A deleted message neither holds its key nor stands for a wake-up."""
    keyed = await put(world, idempotency_key="k")
    wake_up = await world.queue(QUEUE_NAME, {"runId": "wrun_1"})
    await world.messages.delete(keyed)
    await world.messages.delete(wake_up)
    assert await put(world, idempotency_key="k") != keyed
    assert await world.queue(QUEUE_NAME, {"runId": "wrun_1"}) != wake_up


@pytest.mark.anyio
async def test_unknown_message_is_not_found(world: World) -> None:
    """404, naming the id."""
    with pytest.raises(MessageNotFoundError) as caught:
        await world.messages.get("msg_none")
    assert caught.value.status == 404
    assert "msg_none" in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("cursor", ["other", "wrun_1", "msg_\0", "msg_\ud800", "msg_" + 5000 * "1"])
async def test_malformed_cursor_of_messages(world: World, cursor: str) -> None:
    """400, as of every other list (B108)."""
    with pytest.raises(InvalidCursorError):
        await world.messages.list(cursor=cursor)


@pytest.mark.anyio
async def test_messages_are_listed_in_pages(world: World) -> None:
    """By id, each once, with filters by status, run and queue."""
    ids = [await put(world, message_id=f"msg_{number}") for number in (3, 1, 4, 2, 5)]
    await put(world, message_id="msg_9", run_id="wrun_1", queue_name=STEP_QUEUE_NAME)
    first = await world.messages.list(limit=2)
    second = await world.messages.list(limit=2, cursor=first.cursor)
    third = await world.messages.list(limit=2, cursor=second.cursor)
    seen = [one.message_id for page in (first, second, third) for one in page.data]
    assert seen == sorted([*ids, "msg_9"])
    assert [page.has_more for page in (first, second, third)] == [True, True, False]
    assert third.cursor is None

    async def listed(**filters: str) -> list[str]:
        page = await world.messages.list(**filters)  # type: ignore[arg-type]
        return [one.message_id for one in page.data]

    assert await listed(run_id="wrun_1") == ["msg_9"]
    assert await listed(queue_name=STEP_QUEUE_NAME) == ["msg_9"]
    assert await listed(queue_name=QUEUE_NAME) == sorted(ids)
    await claim_one(world, "msg_9", prefixes=["__wkf_step_"])
    assert await listed(status="processing") == ["msg_9"]
    assert await listed(status="pending") == sorted(ids)
    assert await listed(status="completed") == []
    assert await listed(status="processing", run_id="wrun_2") == []


@pytest.mark.anyio
async def test_stats_count_per_queue_and_status(world: World, clock: ManualClock) -> None:
    """Counts, the oldest due time of what is pending and the oldest claim of what is running."""
    empty = await world.messages.stats()
    assert (dict(empty.counts), empty.oldest_due_at, empty.oldest_claimed_at) == ({}, None, None)
    await complete(world, await put(world), clock.now())
    await exhaust(world, await put(world, max_attempts=1), clock.now())
    clock.advance(1)
    claimed_at = clock.now()
    running = await put(world, queue_name=STEP_QUEUE_NAME)
    await claim_one(world, running)
    clock.advance(1)
    due_at = clock.now()
    await put(world)
    clock.advance(1)
    await put(world)
    stats = await world.messages.stats()
    assert {name: dict(counts) for name, counts in stats.counts.items()} == {
        QUEUE_NAME: {"completed": 1, "failed": 1, "pending": 2},
        STEP_QUEUE_NAME: {"processing": 1},
    }
    assert (stats.oldest_due_at, stats.oldest_claimed_at) == (due_at, claimed_at)


@pytest.mark.anyio
async def test_b156_retention_is_the_workers_upkeep(
    make_world: MakeWorld, clock: ManualClock
) -> None:
    """A completed message is kept while its key is held, even with no retention at all."""
    from ...api.context import Context
    from ...worker.upkeep import Upkeep

    world = make_world(completed_retention_s=0, failed_retention_s=0, idempotency_ttl_ms=5_000)
    upkeep = Upkeep(Context(world.backend, world.settings, clock), world.messages)
    message_id = await world.queue(QUEUE_NAME, {}, idempotency_key="k")
    await complete(world, message_id, clock.now())
    failed = await put(world, max_attempts=1)
    message = await claim_one(world, failed)
    assert await end(world, message, Failed(message="boom"), clock.now())
    clock.advance(4)
    assert await upkeep.prune() == 1
    assert await world.queue(QUEUE_NAME, {}, idempotency_key="k") == message_id
    clock.advance(2)
    assert await upkeep.prune() == 1
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_done_message_of_one_run_does_not_touch_another(
    world: World, clock: ManualClock
) -> None:
    """Settling is by message id and token alone."""
    first, second = await put(world, run_id="wrun_1"), await put(world, run_id="wrun_2")
    message = await claim_one(world, first, limit=1)
    assert await end(world, message, Done(), clock.now())
    assert (await world.messages.get(second)).status == "pending"
