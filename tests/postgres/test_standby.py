"""A standby takes over while the answer to a COMMIT is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from servers.postgres import Postgres, Standby

from workflow_world import World
from workflow_world.errors import BackendError
from workflow_world.sql.postgres import transaction

from .conftest import MakeWorld
from .helpers import create_run, eventually
from .proxy import Proxy

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Standby]]:
    with Postgres() as primary, Standby(primary) as standby:
        yield primary, standby


@pytest.fixture
def before(pair: tuple[Postgres, Standby]) -> Iterator[Proxy]:
    with Proxy(pair[0].port) as proxy:
        yield proxy


@pytest.fixture
async def behind(make_world: MakeWorld, pair: tuple[Postgres, Standby], before: Proxy) -> World:
    """On the primary; its next COMMIT is answered to nobody, and who asks then comes to the
    standby, which has not got so far yet."""
    primary, standby = pair
    world = make_world(
        f"postgresql://postgres@127.0.0.1:{before.port}/postgres", notifications=False
    )
    await create_run(world, "wrun_1")
    where = primary.execute("SELECT pg_current_wal_lsn()")[0][0]
    reached = f"SELECT pg_last_wal_replay_lsn() >= '{where}'"
    await eventually(lambda: standby.execute(reached)[0][0])
    standby.execute("SELECT pg_wal_replay_pause()")
    paused = "SELECT pg_get_wal_replay_pause_state()"
    await eventually(lambda: standby.execute(paused)[0][0] == "paused")
    before.turn_to(standby.port)
    before.cut("after")
    return world


async def test_a_standby_that_takes_over_knows_the_outcome(
    behind: World, pair: tuple[Postgres, Standby]
) -> None:
    """It has never heard of the transaction, and then it has: nothing is written twice."""
    writing = asyncio.create_task(behind.streams.write("wrun_1", "out", b"x"))
    await asyncio.sleep(0.5)
    assert not writing.done()
    await asyncio.to_thread(pair[1].promote)
    await writing
    assert (await behind.streams.get_info("wrun_1", "out")).tail_index == 0


async def test_a_standby_that_stays_one_knows_nothing(
    behind: World, pair: tuple[Postgres, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_ASK_S", 0.3)
    with pytest.raises(BackendError) as caught:
        await behind.streams.write("wrun_1", "out", b"x")
    assert caught.value.code == "UNKNOWN_OUTCOME"
    await asyncio.to_thread(pair[1].promote)
    assert (await behind.streams.get_info("wrun_1", "out")).tail_index == 0
