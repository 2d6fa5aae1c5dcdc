"""A server that is not there: a clear error soon, and the World goes on when it is back."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from postgres.proxy import Proxy

from workflow_world import BackendError, World
from workflow_world.backend import Lease

from .conftest import MakeWorld
from .helpers import PATIENCE_S, QUEUE, create_run, through

pytestmark = pytest.mark.anyio

SOON_S = 18.0
"""The driver looks for a server for five seconds, and a write may wait for the one before it."""


async def all_fail(*calls: Any) -> list[BackendError]:
    """Soon, and in one line."""
    begun = time.monotonic()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - begun < SOON_S
    found = [error for error in errors if isinstance(error, BackendError)]
    assert len(found) == len(errors)
    assert all(error.code == "BACKEND" for error in found)
    assert all("MongoDB cannot be reached" in str(error) for error in found)
    assert not any("\n" in str(error) for error in found)
    return found


async def test_nobody_listens(make_world: MakeWorld, nowhere: int) -> None:
    """However many ask at once."""
    world = make_world(f"mongodb://127.0.0.1:{nowhere}/w")
    await all_fail(
        *(world.runs.list() for _ in range(12)),
        *(world.queue(QUEUE, {"n": n}) for n in range(12)),
    )


async def test_who_was_there_too_early_is_not_lost(
    make_world: MakeWorld, url: str, proxy: Proxy, nowhere: int, server_port: int
) -> None:
    proxy.turn_to(nowhere)
    world = make_world(through(proxy, url))
    await all_fail(world.runs.list())
    proxy.turn_to(server_port)
    await create_run(world, "wrun_1")
    assert len((await world.runs.list()).data) == 1
    await world.close()


async def test_many_writers_hear_of_it_soon(
    far: World, proxy: Proxy, nowhere: int, server_port: int
) -> None:
    await create_run(far, "wrun_1")
    proxy.turn_to(nowhere)
    proxy.cut_all()
    await asyncio.sleep(1)
    await all_fail(
        *(far.queue(QUEUE, {"n": n}) for n in range(30)), *(far.runs.list() for _ in range(20))
    )
    proxy.turn_to(server_port)
    await far.queue(QUEUE, {"n": 30})
    messages = (await far.messages.list(limit=100)).data
    assert len(messages) == 1


async def test_a_short_outage_is_not_noticed(
    far: World, proxy: Proxy, nowhere: int, server_port: int
) -> None:
    await create_run(far, "wrun_1")
    proxy.turn_to(nowhere)
    proxy.cut_all()
    calls = [
        far.queue(QUEUE, {"n": 1}),
        far.runs.get("wrun_1"),
        far.streams.write("wrun_1", "o", b"x"),
    ]
    waiting = asyncio.gather(*calls)
    await asyncio.sleep(1)
    proxy.turn_to(server_port)
    await waiting
    assert (await far.streams.get_info("wrun_1", "o")).tail_index == 0


async def test_a_worker_goes_on(far: World, proxy: Proxy, nowhere: int, server_port: int) -> None:
    heard: list[object] = []

    async def handler(message: object, **about: object) -> None:
        heard.append(message)

    far.create_queue_handler("__wkf_workflow_", handler)
    await far.start()
    await far.queue(QUEUE, {"n": 1})
    proxy.turn_to(nowhere)
    proxy.cut_all()
    await asyncio.sleep(7)
    proxy.turn_to(server_port)
    async with asyncio.timeout(PATIENCE_S):
        await far.queue(QUEUE, {"n": 2})
        while {"n": 2} not in heard:  # noqa: ASYNC110  # the worker hears it
            await asyncio.sleep(0.05)


async def test_leases_are_extended_again_after_it(
    far: World, proxy: Proxy, nowhere: int, server_port: int
) -> None:
    await far.queue(QUEUE, {"n": 1})
    claim = await far.backend.messages.claim(
        limit=1, lease=timedelta(minutes=1), serialize_runs=True, prefixes=None
    )
    leases = [
        Lease(message_id=one.message_id, token=one.lease_token or "") for one in claim.messages
    ]
    proxy.turn_to(nowhere)
    proxy.cut_all()
    await asyncio.sleep(1)
    begun = time.monotonic()
    with pytest.raises(BackendError, match="cannot be reached"):
        await asyncio.to_thread(far.backend.messages.extend, leases, timedelta(minutes=1))
    assert time.monotonic() - begun < SOON_S
    proxy.turn_to(server_port)
    lost = await asyncio.to_thread(far.backend.messages.extend, leases, timedelta(minutes=1))
    assert not lost


async def test_closing_does_not_wait_for_long(
    make_world: MakeWorld, url: str, proxy: Proxy, nowhere: int
) -> None:
    world = make_world(through(proxy, url))
    await create_run(world, "wrun_1")
    proxy.turn_to(nowhere)
    proxy.cut_all()
    begun = time.monotonic()
    await world.close()
    assert time.monotonic() - begun < SOON_S
