"""B194: workers are killed at random moments and restarted; every run ends with its result."""

from __future__ import annotations

import asyncio
import os
import random
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import Starter, Workers, check_everything
from servers.engines import ALL, Running

RUNS_PER_KILL = 2
KILLS = int(os.environ.get("CHAOS_KILLS", "0"))
"""0: 50, 15 on MongoDB, but 4 where everybody then waits for the lock that the dead one has."""
LIFE_S = 0.005, 0.5
"""A worker that has work is killed after so long."""


@pytest.mark.timeout(460 + 20 * KILLS)
@pytest.mark.parametrize("name", [*ALL, "libsql-auth", "libsql-replica"])
def test_killed_workers_lose_nothing(
    engines: Running, name: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    kills = KILLS or {"libsql": 4, "libsql-auth": 2, "libsql-replica": 2, "mongodb": 15}.get(
        name, 50
    )
    # Who dies in a transaction keeps the lock for five seconds: kills must not outpace the work.
    pace = {"IN_FLIGHT": "4", "LEASE_MS": "6000"} if name.startswith("libsql") else {}
    replicas = {}
    if name == "libsql-replica":
        if find_spec("libsql_experimental") is None:
            pytest.skip("the stock driver has no wheel here")
        (tmp_path / "replicas").mkdir()
        name, replicas = "libsql", {"REPLICAS": str(tmp_path / "replicas")}
    with (
        engines(name).database() as url,
        Starter(url, tmp_path, **pace) as starter,
        Workers(url, tmp_path, **pace, **replicas) as workers,
    ):
        for worker in ("one", "two"):
            workers.start(worker)
        times = list[float]()
        for kill in range(1, kills + 1):
            victim = chance.choice(("one", "two"))
            workers.pid(victim)
            # New work first, so that each kill meets some.
            assert starter.start(RUNS_PER_KILL) == kill * RUNS_PER_KILL
            time.sleep(chance.uniform(*LIFE_S))
            workers.kill(victim)
            times.append(time.time())
            workers.start(victim)
        results = starter.results(timeout=400)
        assert len(results) == kills * RUNS_PER_KILL
        cut_off = asyncio.run(check_everything(url, results, tmp_path, times))
        assert cut_off or kills < 50
