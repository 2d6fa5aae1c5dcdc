"""One server without transactions. All of B093-B098, as of the whole suite, is run on such a one:
tests/conformance/test_mongodb.py."""

from __future__ import annotations

import asyncio

import pytest
from postgres.proxy import Proxy
from servers import mongodb

from .conftest import MakeWorld
from .helpers import create_run, event, through

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("asked", [b"startTransaction\0", b"txnNumber\0"])
async def test_b201_no_transaction_of_the_server_is_asked_for(
    server: mongodb.Server, make_world: MakeWorld, url: str, proxy: Proxy, asked: bytes
) -> None:
    """And the positions of eight concurrent writers of two Worlds are dense all the same."""
    hello = server.collection("admin", "x").database.command("isMaster")
    if "setName" in hello:
        pytest.skip("the server given to the tests is a replica set")
    proxy.commit = asked
    proxy.cut("before")
    worlds = [make_world(through(proxy, url)) for _ in range(2)]
    await create_run(worlds[0], "wrun_1")

    async def write(number: int) -> None:
        for n in range(5):
            about = f"step_{number}_{n}"
            created = event("step_created", about, stepName="s", input=1)
            await worlds[number % 2].events.create("wrun_1", created)
            await worlds[number % 2].events.create("wrun_1", event("step_started", about))

    await asyncio.gather(*map(write, range(8)))
    log = (await worlds[0].events.list("wrun_1", limit=1000)).data
    assert [one.position for one in log] == [*range(1, 82)]
    assert proxy.pending == 1
    for world in worlds:
        await world.close()
