"""Kill a process at fault points in turn: ``crash.py PLACE FOLDER SHARD SHARDS [SEED]``.

This process imports everything once and forks one child per attempt. The child plays the tiny
flow and is gone without notice when it reaches a fault point for the n-th time; another child plays
on. One JSON line per attempt says what was left in the end; the first is of an undisturbed child.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from servers.engines import Engine, attached
from tiny_flow import RUN, Tiny

from workflow_world import World, create_world, faults

KILLED, PATIENCE_S = 77, 30


async def play(url: str, traces: Path) -> dict[str, Any]:
    """Begin or go on until the run has ended and every message is settled."""
    world = create_world(url, poll_interval_ms=20)
    tiny = Tiny(world, traces)
    async with asyncio.timeout(PATIENCE_S), world:
        await tiny.begin()
        seen = await until(lambda: kinds(world), {"hook_created", "run_completed"}.intersection)
        if not {"hook_received", "run_completed"} & seen:
            await tiny.resume()
        await world.runs.wait(RUN)
        await until(lambda: statuses(world), {"completed", "failed"}.issuperset)
        return await state(world, traces.read_text)


async def kinds(world: World) -> set[str]:
    return {event.event_type for event in (await world.events.list(RUN)).data}


async def statuses(world: World) -> set[str]:
    stats = await world.messages.stats()
    return {status for counts in stats.counts.values() for status in counts}


async def until(
    read: Callable[[], Awaitable[set[str]]], accept: Callable[[set[str]], Any]
) -> set[str]:
    """Read again and again until what was read is accepted."""
    while True:
        found = await read()
        if accept(found):
            return found
        await asyncio.sleep(0.003)


async def state(world: World, traces: Callable[[], str]) -> dict[str, Any]:
    """What must be the same however often the process died."""
    log = (await world.events.list(RUN)).data
    run = await world.runs.get(RUN)
    steps = (await world.steps.list(RUN)).data
    executed = Counter(traces().split())
    chunks = await world.streams.get_chunks(RUN, "out")
    return {
        "events": sorted(
            f"{event.event_type} {event.correlation_id}"
            for event in log
            if event.event_type != "step_started"
        ),
        "dense": [event.position for event in log] == [*range(1, len(log) + 1)],
        "run": [run.status, repr(run.output)],
        "steps": sorted([step.step_id, step.status, repr(step.output)] for step in steps),
        "executed within the starts": all(
            1 <= executed[step.step_id] <= step.attempt for step in steps
        ),
        "chunks": [repr(chunk.data) for chunk in chunks.data],
        "stream done": chunks.done,
        "hooks": len((await world.hooks.list(RUN)).data),
        "messages": sorted(await statuses(world)),
    }


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run ``work`` in a child. Returns: its exit code, and its result as it came over a pipe."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        code = 1
        try:
            with os.fdopen(sink, "w") as pipe:
                json.dump(work(), pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(sink)
    with os.fdopen(source) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


def counted(url: str, traces: Path) -> dict[str, Any]:
    reached: list[str] = []
    with faults.armed(reached.append):
        return {"state": asyncio.run(play(url, traces)), "points": reached}


def killed_at(url: str, traces: Path, point: str, nth: int) -> None:
    left = nth

    def kill(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os._exit(KILLED)

    with faults.armed(kill):
        asyncio.run(play(url, traces))


def chosen(points: list[str], seed: str | None) -> list[tuple[str, int]]:
    """Points and when to die there: at each of their times, or with a seed at one of them."""
    times = sorted(Counter(points).items())
    if seed is None:
        return [(name, nth) for name, most in times for nth in range(1, most + 1)]
    chance = random.Random(seed)  # noqa: S311
    return [(name, chance.randint(1, most)) for name, most in times]


def attempt(engine: Engine, traces: Path, point: str, nth: int) -> dict[str, Any]:
    """Die there, and play on."""
    with engine.database() as url:
        code, _ = forked(lambda: killed_at(url, traces, point, nth))
        engine.bury(url)
        again, found = forked(lambda: asyncio.run(play(url, traces)))
    return {
        "point": point,
        "nth": nth,
        "killed": code == KILLED,
        "code": again,
        "state": found,
    }


def main(place: str, folder: Path, shard: int, shards: int, seed: str | None = None) -> None:
    engine = attached(place)
    with engine.database() as url:
        create_world(url)  # imports what the engine needs
        _, undisturbed = forked(lambda: counted(url, folder / "undisturbed"))
    print(json.dumps(undisturbed), flush=True)  # noqa: T201
    for point, most in chosen(undisturbed["points"], seed)[shard::shards]:
        nth, killed = most, False
        while nth and not killed:
            told = attempt(engine, folder / f"{point} {most} {nth}", point, nth)
            print(json.dumps(told | {"chosen": most}), flush=True)  # noqa: T201
            # Another order of the same work may reach a point less often; then nothing was killed.
            nth, killed = nth // 2, told["killed"]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
