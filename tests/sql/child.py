"""Commands that tests run in processes of their own: ``python child.py COMMAND URL …``."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable

from workflow_world import World, create_world
from workflow_world.errors import WorldError

QUEUE = "__wkf_workflow_greet"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # how the test hears of it


async def gate() -> None:
    """Say that everything is imported, and wait for the test's word."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)


def event(kind: str, correlation_id: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": correlation_id, "eventData": data or None}


async def write(world: World, name: str, runs: str) -> None:
    """Runs of six events, with a message and a chunk each; four at a time."""

    async def one(run_id: str) -> None:
        create = event("run_created", deploymentId="d", workflowName="w", input=1)
        await world.events.create(run_id, create)
        await world.events.create(run_id, event("run_started"))
        await world.events.create(run_id, event("step_created", "s", stepName="s", input=1))
        await world.events.create(run_id, event("step_started", "s"))
        await world.events.create(run_id, event("step_completed", "s", result=1))
        await world.events.create(run_id, event("run_completed", output=1))
        await world.queue(QUEUE, {"runId": run_id}, idempotency_key=run_id)
        await world.streams.write(run_id, "out", b"chunk")

    async def some(which: int) -> None:
        for number in range(which, int(runs), 4):
            await one(f"wrun_{name}_{number}")

    await gate()
    await asyncio.gather(*(some(which) for which in range(4)))


async def open_first(world: World) -> None:
    """The first use of a database that may not exist yet."""
    await gate()
    say(str(len((await world.runs.list()).data)))


async def work(world: World) -> None:
    """A worker whose handler never ends."""

    async def handler(message: object, *, attempt: int, queue_name: str, message_id: str) -> None:
        say(message_id)
        await asyncio.Event().wait()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    say("started")
    await asyncio.Event().wait()


async def chunk(world: World, run_id: str, name: str) -> None:
    await world.backend.open()
    await gate()
    await world.streams.write(run_id, name, b"from afar")
    say("written")


async def run_end(world: World, run_id: str) -> None:
    await world.backend.open()
    await gate()
    await world.events.create(run_id, event("run_completed", output="from afar"))
    say("written")


async def full(world: World) -> None:
    """Write until no file may grow any more, read, then go on with the limit lifted."""
    await world.streams.write("wrun_1", "out", b"first")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        for _ in range(200):
            await world.streams.write("wrun_1", "out", b"x" * 50_000)
        say("never full")
    except WorldError as error:
        say(f"{type(error).__name__}: {error}")
    say((await world.streams.get_chunks("wrun_1", "out", limit=1)).data[0].data.decode())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    before = await world.streams.get_info("wrun_1", "out")
    await world.streams.write("wrun_1", "out", b"last")
    after = await world.streams.get_info("wrun_1", "out")
    say(f"grown by {after.tail_index - before.tail_index}")


COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {
    "write": write,
    "open": open_first,
    "work": work,
    "chunk": chunk,
    "end": run_end,
    "full": full,
}


async def main(command: str, url: str, *arguments: str) -> None:
    world = create_world(url, lock_duration_ms=600_000)
    try:
        await COMMANDS[command](world, *arguments)
    finally:
        await world.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
