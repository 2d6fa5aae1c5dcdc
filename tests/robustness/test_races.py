"""Many processes at once: what one may do one does, and what is due is taken once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from servers.engines import APART

from workflow_world import HookNotFoundError, World, WorldError
from workflow_world.core.fold import fold

from .conftest import MakeWorld, Spawn
from .helpers import FLOWS, LONG, PATIENCE_S, create_run, engine_of, event, not_on_libsql

pytestmark = pytest.mark.anyio

ROUNDS = 200 if LONG else 1
KINDS = {
    "run created",
    "step created",
    "step outcome",
    "hook created",
    "hook disposed",
    "wait created",
    "wait completed",
    "attributes set",
    "run ended",
    "token",
}


def answer(spawn: Spawn, *arguments: str) -> Any:
    (line,) = spawn(*arguments).end()
    return json.loads(line)


async def test_one_winner_among_32_tasks_of_8_processes(
    url: str, spawn: Spawn, make_world: MakeWorld
) -> None:
    won = await asyncio.to_thread(answer, spawn, "races", url, str(ROUNDS))
    messages = [name for name in won if " message " in name]
    assert len(messages) == ROUNDS
    assert {name: times for name, times in won.items() if name not in messages} == {
        f"{number} {kind}": 1 for number in range(ROUNDS) for kind in KINDS
    }
    world = make_world(url)
    for number in range(ROUNDS):
        for run_id in (f"wrun_{number}", f"wrun_{number}_end"):
            log = (await world.events.list(run_id, limit=1000)).data
            assert [one.position for one in log] == [*range(1, len(log) + 1)]
            kinds = Counter((one.event_type, one.correlation_id) for one in log)
            assert set(kinds.values()) == {1}, kinds


async def test_a_resume_against_a_disposal_against_the_end(
    url: str, make_world: MakeWorld, seed: int
) -> None:
    """And against another run that wants the token. Whatever comes first, nothing is written behind
    what it ended, and the token has one holder."""
    chance = random.Random(seed)  # noqa: S311
    first, second = make_world(url), make_world(url, **APART[engine_of(url)])
    assert first.backend is not second.backend
    rounds, at_once = (10_000, 50) if LONG else (60, 20)
    for start in range(0, rounds, at_once):
        numbers = range(start, start + at_once)
        await asyncio.gather(*(_hook_round(first, second, number, chance) for number in numbers))


async def _hook_round(first: World, second: World, number: int, chance: random.Random) -> None:
    run_id, rival, token = f"wrun_{number}", f"wrun_{number}_rival", f"token {number}"
    for one in (run_id, rival):
        await create_run(first, one)
        await first.events.create(one, event("run_started"))
    await first.events.create(run_id, event("hook_created", "hook", token=token))
    proposed = [
        (run_id, event("hook_received", "hook", payload=b"1")),
        (run_id, event("hook_received", "hook", payload=b"2")),
        (run_id, event("hook_disposed", "hook")),
        (run_id, event("run_completed", output=b"")),
        (rival, event("hook_created", "other", token=token)),
    ]
    chance.shuffle(proposed)

    async def attempt(about: str, what: dict[str, object]) -> str:
        try:
            result = await chance.choice((first, second)).events.create(about, what)
        except WorldError as error:
            return f"{error.status}"
        assert result.event is not None
        return result.event.event_type

    wins = Counter(await asyncio.gather(*(attempt(*one) for one in proposed)))
    assert {kind for kind in wins if kind.isdigit()} <= {"404", "409", "410"}
    log = [one.event_type for one in (await second.events.list(run_id)).data]
    assert log.count("hook_received") == wins["hook_received"]
    assert log.count("hook_disposed") == wins["hook_disposed"]
    assert wins["run_completed"] == 1
    assert log[-1] == "run_completed"
    if "hook_disposed" in log:
        assert "hook_received" not in log[log.index("hook_disposed") :]
    assert not (await second.hooks.list(run_id)).data
    assert fold((await second.events.list(run_id)).data).run == await second.runs.get(run_id)
    # The rival took the token when it was free, or heard that it was not.
    assert wins["hook_created"] + wins["hook_conflict"] == 1
    holders = [one.run_id for one in (await second.hooks.list(rival)).data]
    assert holders == [rival] * wins["hook_created"]
    if wins["hook_created"]:
        assert (await first.hooks.get_by_token(token)).run_id == rival
    else:
        with pytest.raises(HookNotFoundError):
            await first.hooks.get_by_token(token)


@not_on_libsql
async def test_no_message_is_claimed_twice(url: str, spawn: Spawn) -> None:
    count, processes = (100_000, 16) if LONG else (2_000, 4)
    found = await asyncio.to_thread(answer, spawn, "claims", url, str(count), str(processes))
    assert found == {"taken": count, "twice": 0, "busy": found["busy"]}
    assert found["busy"] > 1, "nobody raced"


async def test_workers_that_join_replay_no_run_beside_another(
    url: str, spawn: Spawn, tmp_path: Path
) -> None:
    runs, workers = (1_000, 11) if LONG else (60, 4)
    arguments = (url, str(tmp_path), str(runs), str(workers))
    found = await asyncio.to_thread(answer, spawn, "joining", *arguments)
    assert found == {"met": 0, "runs": runs, "replays": 4 * runs}


async def park(world: World, runs: int) -> None:
    """So many runs that wait for nothing but their hook."""

    async def one(number: int) -> None:
        run_id = f"wrun_{number}"
        await create_run(world, run_id)
        await world.events.create(run_id, event("run_started"))
        await world.events.create(run_id, event("hook_created", "hook", token=f"token {number}"))

    for start in range(0, runs, 200):
        await asyncio.gather(*map(one, range(start, min(start + 200, runs))))


@not_on_libsql
async def test_parked_runs_get_no_message_however_often_workers_start(
    url: str, make_world: MakeWorld
) -> None:
    world = make_world(url)
    await park(world, 10_000 if LONG else 200)

    async def handler(message: object, **about: object) -> None:
        raise AssertionError(f"nobody sent {message}")

    for restart in range(20):
        restarted = make_world(url, recovery_grace_ms=0, poll_interval_ms=50 + restart)
        restarted.create_queue_handler(FLOWS, handler)
        await restarted.start()
        assert await restarted._worker._upkeep.sweep(at_start=True) == 0
        await restarted.close()
    assert not (await world.messages.list()).data


async def test_parked_runs_get_no_message_from_workers_that_are_killed(
    url: str, make_world: MakeWorld, spawn: Spawn, seed: int
) -> None:
    """Each in a process of its own, killed in one of its sweeps. The runs are alive all the same:
    the last worker ends them, once their hooks are resumed."""
    chance, world = random.Random(seed), make_world(url)  # noqa: S311
    runs, restarts = (10_000, 20) if LONG else (100, 3)
    await park(world, runs)
    for _ in range(restarts):
        worker = spawn("parked", url)
        assert await asyncio.to_thread(worker.line) == "ready"
        await asyncio.sleep(chance.uniform(0, 0.1))
        worker.kill()
    assert not (await world.messages.list()).data
    assert {run.status for run in (await world.runs.list(limit=1000)).data} == {"running"}
    last = spawn("parked", url)
    assert await asyncio.to_thread(last.line) == "ready"

    async def resume(number: int) -> None:
        run_id = f"wrun_{number}"
        await world.events.create(run_id, event("hook_received", "hook", payload=b"p"))
        await world.queue(FLOWS + "w", {"runId": run_id})
        assert (await world.runs.wait(run_id, PATIENCE_S)).status == "completed"

    for start in range(0, runs, 50):
        await asyncio.gather(*map(resume, range(start, min(start + 50, runs))))
    last.kill()
