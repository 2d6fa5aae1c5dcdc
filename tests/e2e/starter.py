"""Starts as many runs as each line of its input says; at the end of it prints all the results.

It resumes their hooks and reads their streams as they are written, too. It delivers nothing: its
World is never started. With ``IN_FLIGHT`` runs that have not ended it waits for the oldest of them
first.
"""

import asyncio
import itertools
import json
import os
import sys
from typing import Any

from vercel.workflow import HookNotFoundError, Run, start

import workflow_world

IN_FLIGHT = int(os.environ.get("IN_FLIGHT", "1000000"))


async def ended(run_id: str) -> None:
    """Waits through outages, too."""
    while True:
        try:
            await world.runs.wait(run_id, timeout=200)
            return
        except TimeoutError:
            for event in (await world.events.list(run_id)).data:
                print(event.created_at, event.event_type, event.correlation_id, file=sys.stderr)  # noqa: T201
            for message in (await world.messages.list(run_id=run_id, limit=9)).data:
                print(message, file=sys.stderr)  # noqa: T201
            raise
        except workflow_world.BackendError as error:
            print(f"waiting again: {error}", file=sys.stderr, flush=True)  # noqa: T201


async def approve(run_id: str, number: int) -> None:
    """Resume its hook once it is there; through outages, too."""
    from flows.durable import Approval, token_of

    while True:
        try:
            log = (await world.events.list(run_id)).data
            if any(event.event_type == "hook_received" for event in log):
                return
            await Approval(value=number + 7).resume(token_of(2 * number))
        except HookNotFoundError:
            pass  # not yet
        except workflow_world.BackendError as error:
            print(f"resuming again: {error}", file=sys.stderr, flush=True)  # noqa: T201
        await asyncio.sleep(0.05)


async def listen(run: Run[int]) -> list[bytes]:
    """Every chunk, as it comes; a reader that an outage ended is replaced by another."""
    heard: list[bytes] = []
    while True:
        try:
            async for chunk in run.readable_bytes(start_index=len(heard)):
                heard.append(chunk)  # noqa: PERF401  # what came before an error counts
            return heard
        except workflow_world.BackendError as error:
            print(f"reading again: {error}", file=sys.stderr, flush=True)  # noqa: T201


async def main() -> None:
    from flows.durable import EXPECTED, approval, is_whole, story

    runs = []
    besides: dict[str, asyncio.Task[Any]] = {}
    numbers = itertools.count()
    kinds = itertools.cycle(EXPECTED)
    while line := await asyncio.to_thread(sys.stdin.readline):
        for _ in range(int(line)):
            kind, number = next(kinds), next(numbers)
            if len(runs) >= IN_FLIGHT:
                await ended(runs[-IN_FLIGHT][2].run_id)
            try:
                run = await start(kind, number)
            except workflow_world.BackendError as error:
                # Nobody was promised anything; it may run all the same.
                print(f"not started: {error}", file=sys.stderr, flush=True)  # noqa: T201
                continue
            runs.append((kind, number, run))
            if kind is approval:
                besides[run.run_id] = asyncio.create_task(approve(run.run_id, number))
            elif kind is story:
                besides[run.run_id] = asyncio.create_task(listen(run))
        print(len(runs), flush=True)  # noqa: T201
    results = {}
    for kind, number, run in runs:
        await ended(run.run_id)
        wanted = EXPECTED[kind](number)
        found = await run.return_value()
        if run.run_id in besides:
            beside = await besides[run.run_id]
            if kind is story and not is_whole(beside):
                found = [found, *map(str, beside)]
        results[run.run_id] = (kind.qualname, found, wanted)
    print(json.dumps(results))  # noqa: T201
    await world.close()


if __name__ == "__main__":
    world = workflow_world.install(**json.loads(os.environ.get("OPTIONS", "{}")))
    asyncio.run(main())
