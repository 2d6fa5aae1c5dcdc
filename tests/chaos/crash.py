"""A fault at fault points in turn: ``crash.py STORY FORM PLACE FOLDER SHARD SHARDS CHOICE SEED``.

This process imports everything once and forks one child per attempt. The child plays the tiny
flow, or all operations. When it reaches a fault point for the n-th time it is gone without notice
("kills"), or the statement raises and the World is closed ("fails"); another child plays on. One
JSON line per attempt says what was left in the end; the first is of an undisturbed child.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeAlias

import operations
from servers.engines import Engine, attached
from sqlalchemy import text
from tiny_flow import RUN, Tiny

from workflow_world import BackendError, World, create_world, faults
from workflow_world.sql import open_database

KILLED, PATIENCE_S = 77, 30

Story: TypeAlias = Callable[[str, Path], Coroutine[Any, Any, dict[str, Any]]]


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


def counted(story: Story, url: str, traces: Path) -> dict[str, Any]:
    reached: list[str] = []
    with faults.armed(reached.append):
        return {"state": asyncio.run(story(url, traces)), "points": reached}


def killed_at(work: Coroutine[Any, Any, Any], point: str, nth: int) -> None:
    left = nth

    def kill(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os._exit(KILLED)

    with faults.armed(kill):
        asyncio.run(work)


async def failed_at(work: Coroutine[Any, Any, Any], point: str, nth: int) -> None:
    """The statement there raises, in whatever thread; then the World is closed."""
    left, loop, failed = nth, asyncio.get_running_loop(), asyncio.Event()

    def fail(name: str) -> None:
        nonlocal left
        left -= name == point
        if name == point and left == 0:
            loop.call_soon_threadsafe(failed.set)
            raise BackendError(f"{point} failed")

    with faults.armed(fail):
        both = asyncio.create_task(work), asyncio.create_task(failed.wait())
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    if failed.is_set():
        os._exit(KILLED)


def fall_due(url: str) -> None:
    """What waits for its next attempt does so no longer."""
    engine = open_database(url, environ={}).engine
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE queue_messages SET available_at = 1 WHERE status='pending'")
        )
    engine.dispose()


READS: Final = 2
"""So many reads are chosen by name, unless all are."""


def chosen(
    points: list[str], choice: str, seed: str, shard: int, shards: int
) -> list[tuple[str, int]]:
    """Points and when to fail there. ``all``: each at each of its times; ``writes``: those of
    statements that write; ``names``: these at one time that the seed gives. And some reads."""
    chance = random.Random(seed)  # noqa: S311
    times = sorted(Counter(points).items())
    if choice == "all":
        return [(name, nth) for name, most in times for nth in range(1, most + 1)][shard::shards]
    reads = [(name, chance.randint(1, most)) for name, most in times if is_read(name)]
    writes = [(name, most) for name, most in times if not is_read(name)]
    if choice == "writes":
        found = [(name, nth) for name, most in writes for nth in range(1, most + 1)]
    else:
        found = [(name, chance.randint(1, most)) for name, most in writes]
    chance.shuffle(reads)
    return found[shard::shards] + reads[shard::shards][:READS]


def is_read(point: str) -> bool:
    return point.startswith(faults.READ)


def attempt(
    story: Story, form: str, engine: Engine, traces: Path, point: str, nth: int
) -> dict[str, Any]:
    """Meet the fault there, and play on."""
    with engine.database() as url:
        if form == "kills":
            code, _ = forked(lambda: killed_at(story(url, traces), point, nth))
        else:
            code, _ = forked(lambda: asyncio.run(failed_at(story(url, traces), point, nth)))
            fall_due(url)
        engine.bury(url)
        again, found = forked(lambda: asyncio.run(story(url, traces)))
    return {
        "point": point,
        "nth": nth,
        "met": code == KILLED,
        "code": again,
        "state": found,
    }


STORIES: dict[str, Story] = {"tiny": play, "operations": operations.play}


def main(
    story: str,
    form: str,
    place: str,
    folder: str,
    shard: str,
    shards: str,
    choice: str,
    seed: str,
) -> None:
    engine, playing = attached(place), STORIES[story]
    with engine.database() as url:
        create_world(url)  # imports what the engine needs
        _, undisturbed = forked(lambda: counted(playing, url, Path(folder) / "undisturbed"))
    print(json.dumps(undisturbed), flush=True)  # noqa: T201
    points = undisturbed["points"]
    for point, most in chosen(points, choice, seed, int(shard), int(shards)):
        nth, met = most, False
        while nth and not met:
            traces = Path(folder) / f"{point} {most} {nth}"
            told = attempt(playing, form, engine, traces, point, nth)
            print(json.dumps(told | {"chosen": most}), flush=True)  # noqa: T201
            # Another order of the same work may reach a point less often; then nothing happened.
            nth, met = nth // 2, told["met"]


if __name__ == "__main__":
    main(*sys.argv[1:])
