"""Fork with an open World: ``forking.py URL``. The child works, and so does the parent.

Says ``fine`` when everything held. In both there is a worker; the database is one.
"""

from __future__ import annotations

import asyncio
import os
import sys

from workflow_world import World, create_world

FLOWS, FLOW = "__wkf_workflow_", "__wkf_workflow_w"
PATIENCE_S = 50


async def use(world: World, name: str) -> None:
    """Read, write, enqueue; then have messages delivered by this process's own worker."""
    heard: list[str] = []

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        heard.append(message["by"])

    world.create_queue_handler(FLOWS, handler)
    created = {
        "eventType": "run_created",
        "eventData": {"deploymentId": "d", "workflowName": "w", "input": b""},
    }
    await world.events.create(f"wrun_{name}", created)
    await world.start()
    for number in range(5):
        await world.queue(FLOW, {"runId": f"wrun_{name}_{number}", "by": name})
    async with asyncio.timeout(PATIENCE_S):
        while not heard:  # noqa: ASYNC110  # the worker makes it so
            await asyncio.sleep(0.01)
    assert (await world.runs.get(f"wrun_{name}")).run_id == f"wrun_{name}"


async def all_delivered(world: World) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            counts = (await world.messages.stats()).counts[FLOW]
            if set(counts) == {"completed"}:
                return
            await asyncio.sleep(0.02)


async def main(url: str) -> None:
    world = create_world(url, poll_interval_ms=20)
    unused = create_world(url, poll_interval_ms=21)
    await use(world, "before")
    busy = asyncio.create_task(keep_writing(world))
    children = [os.fork()]
    if children == [0]:
        code = 1
        try:
            asyncio.run(child(world, unused))
            code = 0
        finally:
            os._exit(code)
    while True:
        pid, status = os.waitpid(children[0], os.WNOHANG)  # noqa: ASYNC222  # does not wait
        if pid:
            break
        await asyncio.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed"
    busy.cancel()
    await use(world, "after")
    await all_delivered(world)
    stored = {run.run_id for run in (await world.runs.list(limit=1000)).data}
    assert {"wrun_before", "wrun_child", "wrun_unused", "wrun_after"} <= stored
    await world.close()
    print("fine", flush=True)  # noqa: T201


async def keep_writing(world: World) -> None:
    """So that the fork comes while the lanes are at work."""
    number = 0
    while True:
        await world.streams.write("wrun_before", "out", b"%d" % number)
        number += 1


async def child(world: World, unused: World) -> None:
    await use(world, "child")
    await use(unused, "unused")
    await world.close()
    await unused.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
