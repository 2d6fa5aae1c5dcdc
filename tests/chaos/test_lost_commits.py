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
from postgres.proxy import Cut, Proxy
from servers.engines import Running
from test_crowd import all_is_there, finished, going

COMMITS = int(os.environ.get("CHAOS_COMMITS", "40"))
"""So many are lost, on each engine."""
PROCESSES, CALLERS = 3, 8
LOOKS = {"postgres": b"COMMIT\0", "libsql": b'"COMMIT"'}
"""A COMMIT on its way."""
WHEN: tuple[Cut, ...] = ("before", "after")


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
        crowd = going(stack, through, PROCESSES, CALLERS, 0)
        lost = Counter[str]()
        while lost.total() < COMMITS:
            # Several in a row meet whoever asks what became of the first.
            times = min(chance.choice((1, 1, 1, 2, 3)), COMMITS - lost.total())
            for when in chance.choices(WHEN, weights=(1, 3), k=times):
                lost[when] += 1
                proxy.cut(when)
            while proxy.pending:  # connections of other processes lose them
                assert all(one.poll() is None for one in crowd), "a process has ended"
                await asyncio.sleep(0.005)
            await asyncio.sleep(chance.uniform(0, 0.1))
        made = finished(crowd)
        await all_is_there(url, made)
    print(f"{dict(lost)} lost, {dict(made)}")  # noqa: T201
