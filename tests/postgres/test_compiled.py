"""Servers that compile what they take for expensive: claims are not, whatever the planner says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from servers import postgres
from servers.postgres import Postgres

from .conftest import MakeWorld
from .helpers import QUEUE

pytestmark = pytest.mark.anyio

EXPLAINED = {
    "shared_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
}


@pytest.fixture(scope="module")
def compiling() -> Iterator[Postgres]:
    """One of the system, which writes its plans to its log. The PyPI package's has no compiler."""
    for programs in postgres.of_the_system():
        with Postgres(programs, **EXPLAINED) as found:
            if found.execute("SELECT pg_jit_available()") == [(True,)]:
                yield found
                return
    pytest.skip("postgres: no server here compiles: apt install postgresql")


@pytest.mark.parametrize("pooler", [False, True], ids=["direct", "pooler"])
async def test_claims_are_not_compiled(
    compiling: Postgres, make_world: MakeWorld, pooler: bool
) -> None:
    compiling.execute("SET jit_above_cost = 0; SELECT count(*) FROM pg_class")
    assert compiling.log.count("JIT:") == compiling.log.count("SELECT count(*) FROM pg_class") > 0
    before = len(compiling.log)
    world = make_world(compiling.url(), transaction_pooler=pooler, notifications=False)
    await world.backend.open()
    for number in range(12):
        for one in range(3):
            await world.queue(QUEUE, {"runId": f"wrun_{number}", "stepId": f"{one}"})
        claim = await world.backend.messages.claim(
            limit=5, lease=timedelta(seconds=30), serialize_runs=True, prefixes=None
        )
        assert claim.messages
    said = compiling.log[before:]
    assert "SKIP LOCKED" in said
    assert "JIT:" not in said
