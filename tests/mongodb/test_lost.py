"""Answers that are lost, and requests that never arrive: the caller gets the truth."""

from __future__ import annotations

import asyncio
import time

import pytest
from postgres.proxy import Cut, Proxy

from workflow_world import BackendError, World, faults

from .helpers import (
    APPLIED,
    COMMIT,
    QUEUE,
    Stored,
    applying,
    create_run,
    database_of,
    event,
    log_of,
)

pytestmark = pytest.mark.anyio

CUTS: list[Cut] = ["before", "after", "reset"]


async def everything_once(world: World, stored: Stored) -> None:
    """Each write is done while its connection is lost, and is heard of as one success."""
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    message_id = await world.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
    await world.streams.write("wrun_1", "out", b"x")
    await world.events.create("wrun_1", event("run_completed", output=1))
    kinds = [kind for kind, _ in await log_of(world, "wrun_1")]
    assert kinds == ["run_created", "run_started", "run_completed"]
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == 0
    assert [one["_id"] for one in stored.alive("queue_messages")] == [message_id]
    assert stored.journal["applied"] == stored.journal["number"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("request_", ["commit", "applied", "runs", "events"])
async def test_whatever_is_lost_it_is_stored_once(
    far: World, proxy: Proxy, stored: Stored, cut: Cut, request_: str
) -> None:
    known = {"commit": COMMIT, "applied": APPLIED}
    proxy.commit = known.get(request_) or applying(request_)
    proxy.cut(cut, 3)
    await everything_once(far, stored)
    assert not proxy.pending


@pytest.mark.parametrize("cut", CUTS)
async def test_batches_are_stored_once(far: World, proxy: Proxy, stored: Stored, cut: Cut) -> None:
    proxy.commit = COMMIT
    proxy.cut(cut, 2)
    await asyncio.gather(*(far.streams.write("wrun_1", "out", bytes([n])) for n in range(40)))
    await far.streams.write("wrun_1", "out", bytes([40]))
    chunks = (await far.streams.get_chunks("wrun_1", "out", limit=100)).data
    assert sorted(chunk.data for chunk in chunks) == [bytes([n]) for n in range(41)]
    assert not proxy.pending


@pytest.mark.parametrize("cut", CUTS)
async def test_a_large_entry_is_stored_once(
    far: World, proxy: Proxy, stored: Stored, cut: Cut
) -> None:
    proxy.commit = COMMIT
    proxy.cut(cut)
    await far.streams.write_multi("wrun_1", "out", [bytes([n]) * (3 << 20) for n in range(4)])
    assert not proxy.pending
    assert [one["data"][:1] for one in stored.alive("stream_chunks")] == [
        b"\0",
        b"\1",
        b"\2",
        b"\3",
    ]


async def test_an_apply_that_fails_is_no_failure(far: World, stored: Stored) -> None:
    """It is committed by then: an error would be a lie, and doing it again would do it twice."""
    failures = [BackendError("the server is full")]

    def fail(name: str) -> None:
        if name == "before stream_chunks" and failures:
            raise failures.pop()

    with faults.armed(fail):
        await asyncio.gather(*(far.streams.write("wrun_1", "out", bytes([n])) for n in range(3)))
    assert not failures
    assert (await far.streams.get_info("wrun_1", "out")).tail_index == 2
    assert [one["data"] for one in stored.alive("stream_chunks")] == [b"\0", b"\1", b"\2"]


async def test_the_outcome_is_not_known_when_the_server_stays_away(
    far: World, proxy: Proxy, nowhere: int, server_port: int, stored: Stored
) -> None:
    await create_run(far, "wrun_1")

    def vanish(name: str) -> None:
        if name == "before commit":
            proxy.commit = COMMIT
            proxy.turn_to(nowhere)
            proxy.cut("after")

    with faults.armed(vanish), pytest.raises(BackendError) as caught:
        await create_run(far, "wrun_2")
    assert caught.value.code == "UNKNOWN_OUTCOME"
    assert stored["runs"].find_one({"_id": "wrun_2"}) is None
    proxy.turn_to(server_port)
    assert (await far.runs.get("wrun_2")).status == "pending"


async def test_what_was_never_sent_is_not_in_doubt(
    far: World, proxy: Proxy, nowhere: int, server_port: int, stored: Stored
) -> None:
    await create_run(far, "wrun_1")
    client = database_of(far).tables.client

    def vanish(name: str) -> None:
        if name == "before commit":
            proxy.turn_to(nowhere)
            proxy.cut_all()
            while client.topology_description.has_writable_server():
                time.sleep(0.02)

    with faults.armed(vanish), pytest.raises(BackendError) as caught:
        await create_run(far, "wrun_2")
    number = stored.journal["number"]
    proxy.turn_to(server_port)
    assert [run.run_id for run in (await far.runs.list()).data] == ["wrun_1"]
    assert caught.value.code == "BACKEND"
    assert stored.journal["number"] == number
    assert stored["runs"].find_one({"_id": "wrun_2"}) is None
