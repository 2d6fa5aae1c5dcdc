"""Commands of ``child.py``: workers whose clock is wrong, and steps that hold up their process."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from children import FLOW, FLOWS, STEPS, Child

from workflow_world import clock, create_world
from workflow_world.http import QueueContinuation


async def work_with_a_wrong_clock(url: str, seconds: float, folder: Path) -> list[list[Any]]:
    """A worker on a machine whose clock is wrong. Returns: when it began which message."""

    class WrongClock(clock.SystemClock):
        def now(self) -> Any:
            return super().now() + timedelta(seconds=seconds)

    clock.SYSTEM_CLOCK.__class__ = WrongClock
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=1500)
    began: list[list[Any]] = []

    async def handler(message: object, *, attempt: int, **about: object) -> Any:
        assert isinstance(message, dict)
        began.append([message["runId"], time.time()])
        if message["runId"] == "wrun_long":
            await asyncio.sleep(5)
        elif message["runId"] == "wrun_again" and not (folder / "again").exists():
            (folder / "again").touch()
            return QueueContinuation(delay_seconds=1.5)
        elif message["runId"] == "wrun_retry" and attempt == 1:
            raise RuntimeError("once")
        return None

    world.create_queue_handler(FLOWS, handler)
    async with world:
        while not (folder / "over").exists():  # noqa: ASYNC110  # a file ends it
            await asyncio.sleep(0.02)
    return began


def skewed(url: str, folder: str, *offsets: str) -> dict[str, list[float]]:
    """Workers whose clocks are off by so many seconds. Returns: when each message was begun."""
    children = [
        Child(lambda by=float(offset): work_with_a_wrong_clock(url, by, Path(folder)))
        for offset in offsets
    ]

    async def send() -> dict[str, float]:
        world = create_world(url)
        sent = {}
        for run_id, delay in (("long", 0), ("later", 1.5), ("again", 0), ("retry", 0)):
            sent[f"wrun_{run_id}"] = time.time()
            await world.queue(FLOW, {"runId": f"wrun_{run_id}"}, delay_seconds=delay)
        while set((await world.messages.stats()).counts[FLOW]) != {"completed"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (Path(folder) / "over").touch()
        await world.close()
        return sent

    sent = Child(send).end()
    began: dict[str, list[float]] = {}
    for child in children:
        for run_id, at in child.end():
            began.setdefault(run_id, []).append(at - sent[run_id])
    return {run_id: sorted(times) for run_id, times in began.items()}


async def work_hard(url: str, folder: Path, leases: float) -> int:
    """A worker whose step holds up the event loop. Returns: how many it executed."""
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=1500)
    executed = 0

    async def handler(message: object, **about: object) -> None:
        nonlocal executed
        assert isinstance(message, dict)
        executed += 1
        if message["how"] == "blocking":
            time.sleep(leases)  # noqa: ASYNC251  # that is the point
            return
        end = time.monotonic() + leases
        while time.monotonic() < end:
            sum(range(10_000))

    world.create_queue_handler(STEPS, handler)
    async with world:
        while not (folder / "over").exists():  # noqa: ASYNC110  # a file ends it
            await asyncio.sleep(0.02)
    return executed


def hard(url: str, folder: str, count: str) -> dict[str, int]:
    """Two workers, and steps that are three leases long. Returns: how many were executed."""
    children = [Child(lambda: work_hard(url, Path(folder), 4.5)) for _ in range(2)]

    async def send() -> int:
        world = create_world(url)
        for number in range(int(count)):
            how = "blocking" if number % 2 else "computing"
            step = {"runId": "wrun_1", "stepId": f"step_{number}", "how": how}
            await world.queue(f"{STEPS}s", step)
        queue = f"{STEPS}s"
        while set((await world.messages.stats()).counts[queue]) != {"completed"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (Path(folder) / "over").touch()
        page = await world.messages.list(limit=1000)
        await world.close()
        return sum(message.deliveries for message in page.data)

    deliveries = Child(send).end()
    return {"executed": sum(child.end() for child in children), "deliveries": deliveries}
