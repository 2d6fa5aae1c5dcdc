"""How many statements and transactions things cost: counted, never timed (B112, spec 3.4)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow_world import World
from workflow_world.backend import Claim
from workflow_world.core.delivery import Done, Limits, settle

from .helpers import QUEUE, Trace, create_run, raw, step_event

pytestmark = pytest.mark.anyio

RUN_AND_LAST = "SELECT workflow_runs"


@pytest.fixture
async def running(trace: Trace, world: World) -> World:
    """A running run, and every connection that the test needs opened already."""
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", {"eventType": "run_started"})
    for _ in range(8):
        await world.runs.list()
    trace.clear()
    return world


async def cost(trace: Trace, call: Awaitable[Any]) -> list[str]:
    trace.clear()
    await call
    return trace.heads


# --- writes ----------------------------------------------------------------------------------


async def test_the_events_of_a_step(trace: Trace, running: World) -> None:
    """Each is one transaction. What the lane wrote last itself, it need not load again."""
    created = await cost(trace, step_event(running, "wrun_1", "step_created"))
    assert created == [
        "BEGIN IMMEDIATE",
        "SELECT workflow_steps",
        "INSERT workflow_events",
        "INSERT workflow_steps",
        "COMMIT",
    ]
    for kind in ("step_started", "step_retrying", "step_started", "step_completed"):
        assert await cost(trace, step_event(running, "wrun_1", kind)) == [
            "BEGIN IMMEDIATE",
            "INSERT workflow_events",
            "UPDATE workflow_steps",
            "COMMIT",
        ], kind


async def test_the_events_of_a_step_when_somebody_else_writes_too(
    trace: Trace, running: World, path: Path
) -> None:
    """Then each loads the run with its newest event, and the step."""
    for kind, last in (
        ("step_created", "INSERT workflow_steps"),
        ("step_started", "UPDATE workflow_steps"),
        ("step_completed", "UPDATE workflow_steps"),
    ):
        with raw(path) as rival:
            rival.execute("UPDATE workflow_runs SET updated_at = updated_at + 1")
        assert await cost(trace, step_event(running, "wrun_1", kind)) == [
            "BEGIN IMMEDIATE",
            RUN_AND_LAST,
            "SELECT workflow_steps",
            "INSERT workflow_events",
            last,
            "COMMIT",
        ], kind


async def test_a_run_that_is_created_and_started(trace: Trace, running: World) -> None:
    assert await cost(trace, create_run(running, "wrun_2")) == [
        "BEGIN IMMEDIATE",
        RUN_AND_LAST,
        "INSERT workflow_runs",
        "INSERT workflow_events",
        "COMMIT",
    ]


async def test_starting_a_running_run_is_a_read(trace: Trace, running: World) -> None:
    again = running.events.create("wrun_1", {"eventType": "run_started"})
    assert await cost(trace, again) == ["BEGIN", RUN_AND_LAST, "COMMIT"]


async def test_a_refusal_writes_nothing(trace: Trace, running: World) -> None:
    await step_event(running, "wrun_1", "step_created")
    trace.clear()
    with pytest.raises(Exception, match="step_1"):
        await step_event(running, "wrun_1", "step_created")
    assert trace.heads == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_the_end_of_a_run(trace: Trace, running: World) -> None:
    ended = running.events.create(
        "wrun_1", {"eventType": "run_completed", "eventData": {"output": 1}}
    )
    assert await cost(trace, ended) == [
        "BEGIN IMMEDIATE",
        RUN_AND_LAST,
        "UPDATE workflow_runs",
        "INSERT workflow_events",
        "DELETE workflow_hooks",
        "UPDATE workflow_events",
        "COMMIT",
    ]


async def claim(world: World, limit: int = 1, prefixes: Sequence[str] | None = None) -> Claim:
    return await world.backend.messages.claim(
        limit=limit, lease=timedelta(seconds=30), serialize_runs=True, prefixes=prefixes
    )


SEARCH = ["SELECT queue_messages", "SELECT queue_messages"]
"""Pending messages, and those whose lease has ended."""
NEXT_DUE = ["SELECT queue_messages"]
CLAIM_ONE = ["BEGIN IMMEDIATE", *NEXT_DUE, *SEARCH, "UPDATE queue_messages", "COMMIT"]
LOOK = ["SELECT queue_messages"]
"""When the next message falls due, from two indexes."""


async def test_a_message_from_enqueue_to_settled(trace: Trace, running: World) -> None:
    assert await cost(trace, running.queue(QUEUE, {"n": 1})) == [
        "BEGIN IMMEDIATE",
        "INSERT queue_messages",
        "COMMIT",
    ]
    assert await cost(trace, claim(running)) == CLAIM_ONE
    (message,) = (await running.messages.list()).data
    settlement = settle(message, Done(), now=message.updated_at, spread=0.0, limits=Limits())
    settled = running.backend.messages.settle([(settlement, None)])
    assert await cost(trace, settled) == ["BEGIN IMMEDIATE", "UPDATE queue_messages", "COMMIT"]


async def test_a_wake_up_and_a_key_cost_a_look_each(trace: Trace, running: World) -> None:
    wake_up = await cost(trace, running.queue(QUEUE, {"runId": "wrun_1"}))
    assert wake_up == [
        "BEGIN IMMEDIATE",
        "SELECT queue_messages",
        "INSERT queue_messages",
        "COMMIT",
    ]
    coalesced = await cost(trace, running.queue(QUEUE, {"runId": "wrun_1"}))
    assert coalesced == ["BEGIN IMMEDIATE", "SELECT queue_messages", "COMMIT"]
    keyed = await cost(trace, running.queue(QUEUE, {"n": 1}, idempotency_key="k"))
    assert keyed == [
        "BEGIN IMMEDIATE",
        "SELECT queue_messages",
        "SELECT queue_messages",
        "INSERT queue_messages",
        "COMMIT",
    ]


async def test_an_idle_worker_looks_and_takes_no_write_lock(
    trace: Trace, running: World, path: Path
) -> None:
    await claim(running)  # the first claim of a process does not look
    assert await cost(trace, claim(running)) == LOOK
    # Nothing was committed meanwhile, so the next look would find the same.
    assert await cost(trace, claim(running)) == []
    # What somebody else enqueued is found by the look, and then claimed.
    await running.queue(QUEUE, {"n": 1}, delay_seconds=3600)
    assert await cost(trace, claim(running)) == ["BEGIN IMMEDIATE", *SEARCH, *NEXT_DUE, "COMMIT"]
    assert await cost(trace, claim(running)) == LOOK
    with raw(path) as rival:
        rival.execute("UPDATE queue_messages SET available_at = 0")
    assert await cost(trace, claim(running)) == [*LOOK, *CLAIM_ONE]


async def test_what_a_look_for_other_queues_found_is_no_answer(running: World) -> None:
    await claim(running)
    await running.queue(QUEUE, {"n": 1}, delay_seconds=3600)
    await claim(running)
    for _ in range(2):
        assert (await claim(running, prefixes=["elsewhere"])).next_due_at is None
        assert (await claim(running)).next_due_at is not None


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_another_connection_knows_nothing_of_what_the_last_one_saw(
    running: World, path: Path
) -> None:
    await running.queue(QUEUE, {"n": 1}, delay_seconds=3600)
    await claim(running)
    fork()  # which closes every connection
    assert not (await claim(running)).messages
    with raw(path) as rival:
        rival.execute("UPDATE queue_messages SET available_at = 0")
    fork()
    assert len((await claim(running)).messages) == 1


async def test_twenty_messages_are_claimed_in_one_transaction(trace: Trace, running: World) -> None:
    for n in range(20):
        await running.queue(QUEUE, {"n": n})
    heads = await cost(trace, claim(running, 20))
    assert heads.count("BEGIN IMMEDIATE") == 1
    assert heads.count("UPDATE queue_messages") == 1
    assert heads.count("SELECT queue_messages") == len([*SEARCH, *NEXT_DUE])


# --- reads -----------------------------------------------------------------------------------

LISTS: dict[str, Callable[[World, int], Awaitable[Any]]] = {
    "runs": lambda world, limit: world.runs.list(limit=limit),
    "runs, filtered": lambda world, limit: world.runs.list(
        limit=limit, status=("running", "pending"), workflow_name="greet", attributes={}
    ),
    "runs, without payloads": lambda world, limit: world.runs.list(
        limit=limit, resolve_data="none"
    ),
    "steps": lambda world, limit: world.steps.list("wrun_1", limit=limit),
    "hooks": lambda world, limit: world.hooks.list(limit=limit),
    "hooks of a run": lambda world, limit: world.hooks.list(run_id="wrun_1", limit=limit),
    "events": lambda world, limit: world.events.list("wrun_1", limit=limit),
    "waits": lambda world, limit: world.waits.list("wrun_1", limit=limit),
    "messages": lambda world, limit: world.messages.list(limit=limit),
}


@pytest.fixture
async def filled(running: World) -> World:
    """Thirty of everything."""
    for n in range(30):
        await create_run(running, f"wrun_more_{n}")
        await step_event(running, "wrun_1", "step_created", f"step_{n}")
        hook = {
            "eventType": "hook_created",
            "correlationId": f"h{n}",
            "eventData": {"token": f"t{n}"},
        }
        await running.events.create("wrun_1", hook)
        wait = {
            "eventType": "wait_created",
            "correlationId": f"w{n}",
            "eventData": {"resumeAt": "2040-01-01T00:00:00Z"},
        }
        await running.events.create("wrun_1", wait)
        await running.queue(QUEUE, {"n": n})
    return running


@pytest.mark.parametrize("read", LISTS.values(), ids=LISTS.keys())
async def test_a_list_is_one_statement_whatever_its_size(
    trace: Trace, filled: World, read: Callable[[World, int], Awaitable[Any]]
) -> None:
    for limit in (1, 7, 30, 1000):
        trace.clear()
        page = await read(filled, limit)
        assert len(page.data) >= min(limit, 30)
        (select,) = [head for head in trace.heads if head not in ("BEGIN", "COMMIT")]
        assert select.startswith("SELECT ")


@pytest.mark.parametrize("size", [1, 31])
async def test_get_many_is_one_statement(trace: Trace, filled: World, size: int) -> None:
    ids = [f"wrun_more_{n}" for n in range(size)]
    assert await cost(trace, filled.runs.get_many(ids)) == [
        "BEGIN",
        "SELECT workflow_runs",
        "COMMIT",
    ]


@pytest.mark.parametrize("limit", [1, 200])
async def test_the_sweep_is_two_statements_a_page(trace: Trace, filled: World, limit: int) -> None:
    heads = await cost(trace, filled.backend.runs.stranded(after=None, limit=limit))
    assert len(heads) == 4
    assert heads[0] == "BEGIN"
