"""Connections that lose a COMMIT, or its answer, again and again while a crowd writes: each caller
hears of one success, and every row is there once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from urllib.parse import urlsplit

import pytest
from crowd import SHARED
from postgres.proxy import Proxy
from servers.engines import Running
from test_crowd import finished, process, rows

from workflow_world import create_world
from workflow_world.check import check

COMMITS = int(os.environ.get("CHAOS_COMMITS", "40"))
"""So many are lost, on each engine."""
PROCESSES, CALLERS = 3, 8
LOOKS = {"postgres": b"COMMIT\0", "libsql": b'"COMMIT"'}
"""A COMMIT on its way."""


@pytest.mark.anyio
@pytest.mark.timeout(300 + COMMITS)
@pytest.mark.parametrize("engine", LOOKS)
async def test_lost_commits_lose_and_double_nothing(
    engines: Running, engine: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(engines(engine).database())
        port = urlsplit(url).port
        assert port is not None
        proxy = stack.enter_context(Proxy(port, commit=LOOKS[engine]))
        through = url.replace(f":{port}", f":{proxy.port}")
        crowd = [
            stack.enter_context(process(through, f"{number}", CALLERS, 0))
            for number in range(PROCESSES)
        ]
        for one in crowd:
            assert one.stdout.readline() == "ready\n", one.communicate()[1]
        for one in crowd:
            one.stdin.write("go\n")
            one.stdin.flush()
        lost = Counter[str]()
        while lost.total() < COMMITS:
            # Several in a row meet whoever asks what became of the first.
            times = min(chance.choice((1, 1, 1, 2, 3)), COMMITS - lost.total())
            for when in chance.choices(("before", "after"), weights=(1, 3), k=times):
                lost[when] += 1
                proxy.cut(when)  # type: ignore[arg-type]
            while proxy.pending:  # connections of other processes lose them
                assert all(one.poll() is None for one in crowd), "a process has ended"
                await asyncio.sleep(0.005)
            await asyncio.sleep(chance.uniform(0, 0.1))
        made = finished(crowd)
        assert rows(url, made) == made
        world = create_world(url)
        try:
            tail = (await world.streams.get_info(SHARED, "out")).tail_index
            assert tail == made["workflow_runs"] - 1
            assert not (await check(world)).findings
        finally:
            await world.close()
    print(f"{dict(lost)} lost, {dict(made)}")  # noqa: T201
