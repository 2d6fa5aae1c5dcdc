"""Starts as many runs as each line of its input says; at the end of it prints all the results.

It delivers nothing: its World is never started. With ``IN_FLIGHT`` runs that have not ended it
waits for the oldest of them first.
"""

import asyncio
import itertools
import json
import os
import sys

from vercel.workflow import start

import workflow_world

IN_FLIGHT = int(os.environ.get("IN_FLIGHT", "1000000"))


async def ended(run_id: str) -> None:
    """Waits through outages, too."""
    while True:
        try:
            await world.runs.wait(run_id, timeout=60)
            return
        except workflow_world.BackendError as error:
            print(f"waiting again: {error}", file=sys.stderr, flush=True)  # noqa: T201


async def main() -> None:
    from flows.durable import EXPECTED

    runs = []
    numbers = itertools.count()
    kinds = itertools.cycle(EXPECTED)
    while line := await asyncio.to_thread(sys.stdin.readline):
        for _ in range(int(line)):
            kind, number = next(kinds), next(numbers)
            if len(runs) >= IN_FLIGHT:
                await ended(runs[-IN_FLIGHT][2].run_id)
            try:
                runs.append((kind, number, await start(kind, number)))
            except workflow_world.BackendError as error:
                # Nobody was promised anything; it may run all the same.
                print(f"not started: {error}", file=sys.stderr, flush=True)  # noqa: T201
        print(len(runs), flush=True)  # noqa: T201
    results = {}
    for kind, number, run in runs:
        await ended(run.run_id)
        wanted = EXPECTED[kind](number)
        results[run.run_id] = (kind.qualname, await run.return_value(), wanted)
    print(json.dumps(results))  # noqa: T201
    await world.close()


if __name__ == "__main__":
    world = workflow_world.install(**json.loads(os.environ.get("OPTIONS", "{}")))
    asyncio.run(main())
