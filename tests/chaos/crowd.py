"""One process of a crowd: ``crowd.py URL NAME CALLERS SECONDS``. Its callers write as fast as they
can, each runs of its own and all of them one shared stream; then it says how many rows it made.

With 0 seconds it goes on until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from workflow_world import NewEvent, World, create_world

FLOW, SHARED = "__wkf_workflow_crowd", "wrun_shared"


async def one_run(world: World, run_id: str, made: Counter[str]) -> None:
    """Everything that a run of one step writes; each write is counted once it is acknowledged."""

    async def event(kind: str, about: str | None = None, **data: Any) -> None:
        new = NewEvent(event_type=kind, correlation_id=about, event_data=data or None)
        await world.events.create(run_id, new)
        made["workflow_events"] += 1

    await event("run_created", deploymentId="d", workflowName="crowd", input=b"in")
    made["workflow_runs"] += 1
    await event("run_started")
    await event("step_created", "step_1", stepName="s", input=b"x" * 300)
    made["workflow_steps"] += 1
    await world.queue(FLOW, {"runId": run_id}, idempotency_key=run_id)
    again = await world.queue(FLOW, {"runId": run_id}, idempotency_key=run_id)
    assert (await world.messages.get(again)).run_id == run_id
    made["queue_messages"] += 1
    await world.streams.write_multi(run_id, "out", [b"a", b"b"])
    made["stream_chunks"] += 2
    await world.streams.write(SHARED, "out", run_id.encode())
    made["stream_chunks"] += 1
    await event("step_started", "step_1")
    await event("step_completed", "step_1", result=b"out")
    log = (await world.events.list(run_id)).data
    assert [one.position for one in log] == [1, 2, 3, 4, 5]
    await event("run_completed", output=b"out")


async def main(url: str, name: str, callers: int, seconds: float) -> None:
    world, made = create_world(url), Counter[str]()
    try:
        await world.runs.list()
        print("ready", flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.readline)
        end, told = time.monotonic() + seconds, asyncio.Event()

        async def until_told() -> None:
            await asyncio.to_thread(sys.stdin.readline)
            told.set()

        def goes_on() -> bool:
            return time.monotonic() < end if seconds else not told.is_set()

        async def call(caller: int) -> None:
            number = 0
            while goes_on():
                await one_run(world, f"wrun_{name}_{caller}_{number}", made)
                number += 1

        await asyncio.gather(until_told(), *map(call, range(callers)))
        print(json.dumps(made), flush=True)  # noqa: T201
    finally:
        await world.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
