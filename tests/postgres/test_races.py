"""Eight processes of four tasks each: what one may do, one does (spec 2.1, 4.4, 4.6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from workflow_world import World
from workflow_world.backend import MessageStore, NewMessage
from workflow_world.core.entities import Message
from workflow_world.ids import new_id

from .conftest import MakeWorld, Spawn
from .helpers import QUEUE, create_run, event, log_of

pytestmark = pytest.mark.anyio

PROCESSES = 8
LEASE = timedelta(seconds=600)


async def test_one_winner_among_32_tasks(world: World, url: str, spawn: Spawn) -> None:
    for run_id in ("wrun_1", "wrun_2"):
        await create_run(world, run_id)
        await world.events.create(run_id, event("run_started"))
    await world.events.create("wrun_1", event("step_created", "done", stepName="s", input=1))
    await world.events.create("wrun_1", event("step_started", "done"))
    await world.events.create("wrun_1", event("wait_created", "w", resumeAt="2030-01-01T00:00:00Z"))
    await world.events.create("wrun_1", event("hook_created", "h", token="another"))  # noqa: S106

    children = [spawn("race", url, str(number)) for number in range(PROCESSES)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"
    for child in children:
        child.go()
    ends = await asyncio.gather(*(asyncio.to_thread(child.end) for child in children))
    said = Counter(line for end in ends for line in end)

    for number in range(6):
        assert said[str(number)] == 1, (number, said)
    assert said["token"] == 1
    assert said["conflict"] == 31
    assert len([line for line in said if line.startswith("message ")]) == 1
    log = Counter(await log_of(world, "wrun_1"))
    assert set(log.values()) == {1}, log
    positions = [one.position for one in (await world.events.list(run_id="wrun_1")).data]
    assert positions == list(range(1, len(positions) + 1))


async def test_chunks_of_all_processes_have_dense_indices(
    world: World, url: str, spawn: Spawn
) -> None:
    children = [spawn("append", url, "wrun_1", "25") for _ in range(4)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"
    for child in children:
        child.go()
    await asyncio.gather(*(asyncio.to_thread(child.end) for child in children))
    page = await world.streams.get_chunks("wrun_1", "out", limit=1000)
    assert [chunk.index for chunk in page.data] == list(range(100))
    assert Counter(chunk.data for chunk in page.data) == {
        f"{number}".encode(): 4 for number in range(25)
    }


# --- claims ----------------------------------------------------------------------------------


async def stores(make_world: MakeWorld, count: int, **options: object) -> list[MessageStore]:
    """Message stores with connections of their own."""
    found: list[MessageStore] = []
    for number in range(count):
        # Another pool size makes it another database handle.
        world = make_world(pool_size=6 + number, **options)
        await world.backend.open()
        found.append(world.backend.messages)
    return found


async def fill(store: MessageStore, runs: int, each: int) -> None:
    for run in range(runs):
        for _ in range(each):
            await store.enqueue(
                NewMessage(
                    message_id=new_id("msg"),
                    queue_name=QUEUE,
                    payload=b"x",
                    max_attempts=3,
                    run_id=f"wrun_{run}",
                )
            )


async def rounds(
    claimers: Sequence[MessageStore], *, serialize: bool, limit: int = 5
) -> list[Message]:
    """Everything that the claimers get when they claim at the same time, until nothing is left."""
    taken: list[Message] = []
    while True:
        claims = await asyncio.gather(
            *(
                store.claim(limit=limit, lease=LEASE, serialize_runs=serialize, prefixes=None)
                for store in claimers
            )
        )
        messages = [message for claim in claims for message in claim.messages]
        if not messages:
            return taken
        taken.extend(messages)


@pytest.mark.parametrize("strategy", ["skip_locked", "conditional_update"])
async def test_two_claims_never_take_one_message(make_world: MakeWorld, strategy: str) -> None:
    claimers = await stores(make_world, 4, claim_strategy=strategy)
    await fill(claimers[0], runs=10, each=8)
    taken = await rounds(claimers, serialize=False)
    assert len(taken) == 80
    assert len({message.message_id for message in taken}) == 80
    assert {message.deliveries for message in taken} == {1}


@pytest.mark.parametrize("strategy", ["skip_locked", "conditional_update"])
async def test_a_claim_that_was_late_looks_for_others(make_world: MakeWorld, strategy: str) -> None:
    claimers = await stores(make_world, 4, claim_strategy=strategy)
    await fill(claimers[0], runs=10, each=8)
    for _ in range(4):
        claims = await asyncio.gather(
            *(
                store.claim(limit=4, lease=LEASE, serialize_runs=False, prefixes=None)
                for store in claimers
            )
        )
        assert all(claim.messages for claim in claims)


@pytest.mark.parametrize("strategy", ["skip_locked", "conditional_update"])
async def test_two_claims_never_take_two_replays_of_a_run(
    make_world: MakeWorld, strategy: str
) -> None:
    claimers = await stores(make_world, 4, claim_strategy=strategy)
    await fill(claimers[0], runs=10, each=4)
    taken = await rounds(claimers, serialize=True)
    assert Counter(message.run_id for message in taken) == {f"wrun_{run}": 1 for run in range(10)}


async def test_an_expired_replay_makes_room(make_world: MakeWorld, server: object) -> None:
    """Its mark is taken away by whoever claims the next message of the run."""
    (first, second) = await stores(make_world, 2)
    await fill(first, runs=1, each=2)
    brief = await first.claim(
        limit=1, lease=timedelta(milliseconds=1), serialize_runs=True, prefixes=None
    )
    assert len(brief.messages) == 1
    await asyncio.sleep(0.01)
    again = await second.claim(limit=5, lease=LEASE, serialize_runs=True, prefixes=None)
    assert len(again.messages) == 1
    message = NewMessage(
        message_id=new_id("msg"),
        queue_name=QUEUE,
        payload=b"x",
        max_attempts=3,
        run_id="wrun_0",
    )
    enqueued = await first.enqueue_and_claim(message, lease=LEASE, serialize_runs=True)
    assert enqueued.claimed is None


async def test_a_new_message_is_claimed_over_an_expired_replay(make_world: MakeWorld) -> None:
    (store,) = await stores(make_world, 1)
    await fill(store, runs=1, each=1)
    await store.claim(limit=1, lease=timedelta(milliseconds=1), serialize_runs=True, prefixes=None)
    await asyncio.sleep(0.01)
    message = NewMessage(
        message_id=new_id("msg"), queue_name=QUEUE, payload=b"x", max_attempts=3, run_id="wrun_0"
    )
    enqueued = await store.enqueue_and_claim(message, lease=LEASE, serialize_runs=True)
    assert enqueued.claimed is not None


async def test_messages_claimed_at_once_by_many_are_one_replay(make_world: MakeWorld) -> None:
    claimers = await stores(make_world, 4)

    def message() -> NewMessage:
        return NewMessage(
            message_id=new_id("msg"),
            queue_name=QUEUE,
            payload=b"x",
            max_attempts=3,
            run_id="wrun_1",
        )

    for _ in range(5):
        done = await asyncio.gather(
            *(
                store.enqueue_and_claim(message(), lease=LEASE, serialize_runs=True)
                for store in claimers
            )
        )
        claimed = [one for one in done if one.claimed is not None]
        assert len(claimed) <= 1
    rows = await claimers[0].list_messages(
        status="processing", run_id=None, queue_name=None, after=None, limit=100
    )
    assert len(rows) == 1
