"""Commands of ``child.py``: many processes try what only one may do, or take what is due."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections import Counter
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from children import FLOW, FLOWS, PATIENCE_S, Child, at_once, created, event

from workflow_world import WorldError, clock, create_world
from workflow_world.backend import NewMessage
from workflow_world.core.delivery import Done, Limits, settle
from workflow_world.http import QueueContinuation


async def prepare_races(url: str, rounds: int) -> None:
    """A run per round that each event of ``tries`` may happen to once."""
    world = create_world(url)

    async def one(number: int) -> None:
        run = f"wrun_{number}"
        for run_id in (run, f"{run}_end"):
            await world.events.create(run_id, created())
            await world.events.create(run_id, event("run_started"))
        for what in (
            event("step_created", "step_done", stepName="s", input=b""),
            event("step_started", "step_done"),
            event("wait_created", "wait_done", resumeAt="2090-01-01T00:00:00Z"),
            event("hook_created", "hook_done", token=f"done {number}"),
            event("hook_created", "hook_resumed", token=f"resumed {number}"),
        ):
            await world.events.create(run, what)

    await asyncio.gather(*map(one, range(rounds)))
    await world.close()


def tries(number: int, name: str) -> list[tuple[str, str, dict[str, object]]]:
    """What only one may do: a name for it, the run and the event."""
    run, far = f"wrun_{number}", "2091-01-01T00:00:00Z"
    end = event("run_failed", error=name) if int(name) % 2 else event("run_completed", output=name)
    outcome = event("step_completed", "step_done", result=name)
    if int(name) % 2:
        outcome = event("step_failed", "step_done", error=name)
    change = [{"key": "k", "value": name}]
    return [
        ("run created", f"wrun_new_{number}", created()),
        ("step created", run, event("step_created", "step_new", stepName="s", input=b"")),
        ("step outcome", run, outcome),
        ("hook created", run, event("hook_created", "hook_new", token=f"new {number}")),
        ("hook disposed", run, event("hook_disposed", "hook_done")),
        ("wait created", run, event("wait_created", "wait_new", resumeAt=far)),
        ("wait completed", run, event("wait_completed", "wait_done")),
        (
            "attributes set",
            run,
            event("attr_set", "attr_new", changes=change, writer={"type": "workflow"}),
        ),
        ("run ended", f"{run}_end", end),
    ]


async def race(url: str, name: str, rounds: int) -> dict[str, int]:
    """Four tasks try everything; counts who was let through."""
    world = create_world(url)
    await world.backend.open()
    won: Counter[str] = Counter()

    async def attempt(task: int) -> None:
        for number in range(rounds):
            for what, run_id, proposed in tries(number, name):
                try:
                    await world.events.create(run_id, proposed)
                    won[f"{number} {what}"] += 1
                except WorldError as error:
                    if error.status not in (404, 409, 410):
                        raise
            resumed = event("hook_received", "hook_resumed", payload=b"same")
            await world.events.create(f"wrun_{number}", resumed, resume_id=f"resume_{number}")
            own = f"wrun_{name}_{task}_{number}"
            await world.events.create(own, created())
            token = event("hook_created", "h", token=f"the token {number}")
            if (await world.events.create(own, token)).hook is not None:
                won[f"{number} token"] += 1
            key = f"key {number}"
            sent = await world.queue(FLOW, {"runId": own}, idempotency_key=key)
            won[f"{number} message {sent}"] = 1

    await asyncio.gather(*map(attempt, range(4)))
    await world.close()
    return won


def races(url: str, rounds: str) -> dict[str, int]:
    async def prepare() -> None:
        await prepare_races(url, int(rounds))

    Child(prepare).end()
    total: Counter[str] = Counter()
    for won in at_once(8, lambda number: race(url, str(number), int(rounds))):
        total.update(won)
    return total


# --- claims ---------------------------------------------------------------------------------------


async def fill(url: str, count: int) -> None:
    world = create_world(url)
    await world.backend.open()
    now = clock.SYSTEM_CLOCK.now()
    for start in range(0, count, 500):
        await asyncio.gather(
            *(
                world.backend.messages.enqueue(
                    NewMessage(
                        message_id=f"msg_{number:08}",
                        queue_name=FLOW,
                        payload=b"\x00",
                        max_attempts=3,
                        run_id=f"wrun_{number % (count // 4)}",
                        available_at=now,
                    )
                )
                for number in range(start, min(count, start + 500))
            )
        )
    await world.close()


async def take(url: str, opened: Barrier) -> list[str]:
    """Claim and settle until nothing is left; the ids that this process got, in order."""
    world = create_world(url)
    await world.backend.open()
    # Who opened first would else have taken all before another one is there.
    await asyncio.to_thread(opened.wait, PATIENCE_S)
    store, got, idle = world.backend.messages, list[str](), 0
    while idle < 20:
        claim = await store.claim(
            limit=20, lease=timedelta(minutes=10), serialize_runs=True, prefixes=None
        )
        if not claim.messages:
            idle += 1
            await asyncio.sleep(0.01)
            continue
        idle = 0
        got.extend(message.message_id for message in claim.messages)
        done = [
            (settle(one, Done(), now=clock.SYSTEM_CLOCK.now(), spread=0, limits=Limits()), None)
            for one in claim.messages
        ]
        assert all(await store.settle(done))
    await world.close()
    return got


def claims(url: str, count: str, processes: str) -> dict[str, int]:
    Child(lambda: fill(url, int(count))).end()
    opened = multiprocessing.get_context("fork").Barrier(int(processes))
    found = at_once(int(processes), lambda number: take(url, opened))
    ids = Counter(message_id for got in found for message_id in got)
    twice = sum(1 for times in ids.values() if times > 1)
    return {"taken": len(ids), "twice": twice, "busy": sum(1 for got in found if got)}


# --- workers that join ---------------------------------------------------------------------------

REPLAYS = 4


async def join_in(url: str, folder: Path, runs: int) -> int:
    """A worker until every run has ended. Returns: how often it met another holder of a run."""
    world = create_world(url, poll_interval_ms=20, concurrency=10)
    met = 0

    async def replay(message: object, **about: object) -> QueueContinuation | None:
        nonlocal met
        assert isinstance(message, dict)
        run_id = message["runId"]
        mark = folder / f"holder-{run_id}"
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            met += 1
            return None
        try:
            await asyncio.sleep(0.002)
            with (folder / f"replays-{run_id}").open("a") as replays:
                replays.write("x")
            count = (folder / f"replays-{run_id}").stat().st_size
            if count == REPLAYS:
                await world.events.create(run_id, event("run_completed", output=b""))
        finally:
            mark.unlink()
        return None if count >= REPLAYS else QueueContinuation(delay_seconds=0)

    world.create_queue_handler(FLOWS, replay)
    async with world:
        while True:
            page = await world.runs.list(status=["pending", "running"], limit=1)
            if not page.data:
                return met
            await asyncio.sleep(0.05)


def joining(url: str, folder: str, runs: str, workers: str) -> dict[str, int]:
    async def begin() -> None:
        world = create_world(url)

        async def one(number: int) -> None:
            run_id = f"wrun_{number}"
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id})

        await asyncio.gather(*map(one, range(int(runs))))
        await world.close()

    Child(begin).end()
    children: list[Child] = []
    for _ in range(int(workers)):
        children.append(Child(lambda: join_in(url, Path(folder), int(runs))))
        time.sleep(0.1)
    met = sum(child.end() for child in children)
    replays = [path.stat().st_size for path in Path(folder).glob("replays-*")]
    return {"met": met, "runs": len(replays), "replays": sum(replays)}
