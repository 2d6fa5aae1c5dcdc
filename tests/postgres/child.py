"""Commands that tests run in processes of their own: ``python child.py COMMAND URL …``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from workflow_world import World, create_world
from workflow_world.errors import WorldError

QUEUE = "__wkf_workflow_greet"
TASKS = 4


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # how the test hears of it


async def gate() -> None:
    """Say that everything is imported, and wait for the test's word."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)


def event(kind: str, correlation_id: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": correlation_id, "eventData": data or None}


async def open_first(world: World) -> None:
    """The first use of a database that may have no tables yet."""
    await gate()
    say(str(len((await world.runs.list()).data)))


async def race(world: World, name: str) -> None:
    """Four tasks try every event that only one may write; says which of them were let through."""
    await world.backend.open()
    await gate()
    tries = [
        ("wrun_new", event("run_created", deploymentId="d", workflowName="w", input=name)),
        ("wrun_1", event("step_created", "s", stepName="s", input=1)),
        ("wrun_1", event("step_completed", "done", result=name)),
        ("wrun_1", event("wait_completed", "w")),
        ("wrun_1", event("hook_disposed", "h")),
        ("wrun_2", event("run_completed", output=name)),
    ]

    async def attempt(task: int) -> None:
        for number, (run_id, what) in enumerate(tries):
            try:
                await world.events.create(run_id, what)
                say(f"{number}")
            except WorldError as error:
                if error.status not in (404, 409, 410):
                    raise
        own = f"wrun_hook_{name}_{task}"
        await world.events.create(
            own, event("run_created", deploymentId="d", workflowName="w", input=1)
        )
        result = await world.events.create(own, event("hook_created", "h", token="the token"))  # noqa: S106
        say("token" if result.hook is not None else "conflict")
        say("message " + await world.queue(QUEUE, {"runId": own}, idempotency_key="the key"))

    await asyncio.gather(*(attempt(task) for task in range(TASKS)))


async def write(world: World, name: str) -> None:
    """Runs for ever; each line is a write that was acknowledged."""
    await world.backend.open()
    await gate()
    number = 0
    while True:
        run_id, number = f"wrun_{name}_{number}", number + 1
        for what in (
            event("run_created", deploymentId="d", workflowName="w", input=1),
            event("run_started"),
            event("step_created", "s", stepName="s", input=1),
        ):
            try:
                await world.events.create(run_id, what)
            except WorldError as error:
                say(f"lost {type(error).__name__} {error.code}")
                break
            say(f"{run_id} {what['eventType']}")


async def chunk(world: World, run_id: str, name: str) -> None:
    await world.backend.open()
    await gate()
    await world.streams.write(run_id, name, b"from afar")
    say("written")


async def append(world: World, run_id: str, count: str) -> None:
    """Chunks to one stream that everybody writes to."""
    await world.backend.open()
    await gate()
    for number in range(int(count)):
        await world.streams.write(run_id, "out", f"{number}".encode())


COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {
    "open": open_first,
    "race": race,
    "write": write,
    "chunk": chunk,
    "append": append,
}


async def main(command: str, url: str, *arguments: str) -> None:
    world = create_world(url)
    try:
        await COMMANDS[command](world, *arguments)
    finally:
        await world.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
