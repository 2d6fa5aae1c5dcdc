"""Commands of ``child.py``: workers whose process ends, by a handler or by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

from children import FLOW, FLOWS, PATIENCE_S, Child, created, event

from workflow_world import EntityConflictError, RunExpiredError, create_world


async def die(url: str) -> str:
    """A worker whose handler ends the process. Returns: how the run ended, once it has."""
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=300, max_deliveries=4)

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        if message["runId"] == "wrun_poison":
            os._exit(9)
        await world.events.create(message["runId"], event("run_completed", output=b""))

    world.create_queue_handler(FLOWS, handler)
    async with world:
        run = await world.runs.wait("wrun_poison", PATIENCE_S)
        await world.runs.wait("wrun_neighbour", PATIENCE_S)
    return f"{run.status} {run.error_code}"


def dying(url: str) -> dict[str, object]:
    """Processes one after the other, until one can say how the run has ended."""

    async def begin() -> None:
        world = create_world(url)
        for run_id in ("wrun_poison", "wrun_neighbour"):
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id})
        await world.close()

    Child(begin).end()
    for deaths in range(20):
        said = Child(lambda: die(url)).end(codes=(0, 9))
        if said is not None:
            return {"deaths": deaths, "said": said}
    return {"deaths": 20, "said": "nothing"}


ARRIVE, SLOW = 30, 10
"""Runs that are started before each signal, and runs that no signal lets end."""


async def serve_until_signal(url: str, grace: float, folder: Path | None) -> None:
    """A worker as an application has it: SIGTERM leaves ``async with``. Without a folder nothing is
    slow any more, and it serves until all is done."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    world = create_world(
        url, poll_interval_ms=20, shutdown_timeout_ms=int(grace * 1000), concurrency=10
    )

    async def write(run_id: str, kind: str, key: str | None = None, **data: object) -> None:
        with contextlib.suppress(EntityConflictError, RunExpiredError):  # by an earlier delivery
            await world.events.create(run_id, event(kind, key, **data))

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        run_id = message["runId"]
        await write(run_id, "run_started")
        if folder is not None:
            (folder / "busy").touch()
        await asyncio.sleep(3600 if message["slow"] and folder is not None else 0.05)
        changes = [{"key": "k", "value": "v"}]
        await write(run_id, "attr_set", "once", changes=changes, writer={"type": "workflow"})
        await write(run_id, "run_completed", output=b"")

    world.create_queue_handler(FLOWS, handler)
    async with world:
        if folder is not None:
            await stop.wait()
        while folder is None:
            counts = (await world.messages.stats()).counts[FLOW]
            if {*counts} == {"completed"}:
                return
            await asyncio.sleep(0.05)


def terminating(url: str, folder: str, rounds: str, grace: str) -> dict[str, object]:
    """SIGTERM under load, again and again; then everything is served to its end.

    Returns: the longest time an exit took, in seconds, and how many messages were not given back.
    """

    async def load(name: str, count: int, slow: bool) -> None:
        world = create_world(url)
        for number in range(count):
            run_id = f"wrun_{name}_{number}"
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id, "slow": slow})
        await world.close()

    async def held() -> int:
        world = create_world(url)
        counts = (await world.messages.stats()).counts[FLOW]
        await world.close()
        return counts.get("processing", 0)

    Child(lambda: load("slow", SLOW, True)).end()
    busy, longest, kept = Path(folder) / "busy", 0.0, 0
    for number in range(int(rounds)):
        Child(lambda name=f"{number}": load(name, ARRIVE, False)).end()
        child = Child(lambda: serve_until_signal(url, float(grace), Path(folder)))
        while not busy.exists():
            time.sleep(0.01)
        time.sleep(0.01 * (number % 10))
        os.kill(child.pid, signal.SIGTERM)
        since = time.monotonic()
        child.end()
        longest = max(longest, time.monotonic() - since)
        kept += Child(held).end()
        busy.unlink(missing_ok=True)
    Child(lambda: serve_until_signal(url, float(grace), None)).end()
    return {"longest": longest, "kept": kept, "runs": SLOW + ARRIVE * int(rounds)}


async def serve_parked(url: str) -> None:
    """A worker that looks for forgotten runs all the time, and says when it has begun to; a run
    that it is sent has ended. Until it is killed."""
    world = create_world(url, recovery_grace_ms=0, recovery_interval_ms=10, poll_interval_ms=20)

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        await world.events.create(message["runId"], event("run_completed", output=b""))

    world.create_queue_handler(FLOWS, handler)
    async with world:
        await world._worker._upkeep.sweep(at_start=True)
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


def parked(url: str) -> None:
    asyncio.run(serve_parked(url))
