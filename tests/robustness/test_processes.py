"""Processes with wrong clocks, with steps that hold everything up, and ones that are ended."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workflow_world.check import check

from .conftest import MakeWorld, Spawn
from .helpers import FLOW, LONG, not_on_libsql

pytestmark = pytest.mark.anyio


async def answer(spawn: Spawn, *arguments: str) -> Any:
    (line,) = await asyncio.to_thread(spawn(*arguments).end)
    return json.loads(line)


async def test_workers_whose_clocks_are_wrong_keep_to_the_servers(
    postgres_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    """Five minutes fast, five minutes slow: no early takeover, and what sleeps wakes when due."""
    began = await answer(spawn, "skewed", postgres_url, str(tmp_path), "300", "-300", "0")
    assert len(began["wrun_long"]) == 1, began
    assert len(began["wrun_later"]) == 1, began
    assert began["wrun_later"][0] >= 1.5, began
    first, second = began["wrun_again"]
    assert second - first >= 1.5, began
    first, second = began["wrun_retry"]
    assert second - first >= 0.8, began


@not_on_libsql
async def test_a_step_three_leases_long_runs_once(url: str, spawn: Spawn, tmp_path: Path) -> None:
    """One that computes and one that blocks, while another worker waits to take over."""
    count = 50 if LONG else 2
    found = await answer(spawn, "hard", url, str(tmp_path), str(count))
    assert found == {"executed": count, "deliveries": count}


@not_on_libsql
async def test_a_handler_that_ends_its_process_fails_its_run(
    url: str, spawn: Spawn, make_world: MakeWorld
) -> None:
    found = await answer(spawn, "dying", url)
    assert found == {"deaths": 4, "said": "failed MAX_DELIVERIES_EXCEEDED"}
    world = make_world(url)
    assert (await world.runs.get("wrun_neighbour")).status == "completed"
    (message,) = (await world.messages.list(status="failed")).data
    assert message.run_id == "wrun_poison"
    assert "4 deliveries that never came to an end" in str(message.last_error)


@not_on_libsql
async def test_sigterm_under_load_gives_everything_back(
    url: str, spawn: Spawn, make_world: MakeWorld, tmp_path: Path
) -> None:
    rounds, grace = (100, 1.0) if LONG else (5, 0.5)
    found = await answer(spawn, "terminating", url, str(tmp_path), str(rounds), str(grace))
    print(f"longest exit {found['longest']:.2f} s, grace {grace} s")  # noqa: T201
    # A busy machine gets longer than the second that is promised.
    assert found["longest"] <= grace + (1 if LONG else 5)
    assert found["kept"] == 0
    world, ended, attempts = make_world(url), Counter[str](), Counter[int]()
    page = await world.messages.list(queue_name=FLOW, limit=1000)
    attempts.update(message.attempt for message in page.data)
    while page.has_more:
        page = await world.messages.list(queue_name=FLOW, limit=1000, cursor=page.cursor)
        attempts.update(message.attempt for message in page.data)
    assert attempts == {1: found["runs"]}
    runs = await world.runs.list(limit=1000)
    ended.update(run.status for run in runs.data)
    while runs.has_more:
        runs = await world.runs.list(limit=1000, cursor=runs.cursor)
        ended.update(run.status for run in runs.data)
    assert ended == {"completed": found["runs"]}
    report = await check(world)
    assert report.clean, report.findings
