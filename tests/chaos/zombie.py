"""One worker of the tiny race: ``zombie.py URL NAME FOLDER``. Says when its step body runs.

The body waits for a file, and then writes: a chunk, a message and the step's outcome. What came
of that is told in one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from workflow_world import NewEvent, World, WorldError, create_world

RUN, STEP = "wrun_zombie", "__wkf_step_zombie"
LEASE_MS = 600


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


async def serve(world: World, name: str, folder: Path) -> None:
    done = asyncio.Event()

    async def body(message: object, **about: object) -> None:
        assert isinstance(message, Mapping)
        await world.events.create(RUN, NewEvent(event_type="step_started", correlation_id="step_1"))
        print(f"{name} runs", flush=True)  # noqa: T201
        await asyncio.to_thread(wait_for, folder / f"go-{name}")
        told = dict[str, str]()
        outcome = NewEvent(
            event_type="step_completed",
            correlation_id="step_1",
            event_data={"result": name.encode()},
        )
        for what, write in (
            ("chunk", lambda: world.streams.write(RUN, "out", name.encode())),
            ("message", lambda: world.queue("__wkf_workflow_nobody", {"by": name})),
            ("outcome", lambda: world.events.create(RUN, outcome)),
        ):
            try:
                await write()
                told[what] = "written"
            except WorldError as error:
                told[what] = error.code
        print(json.dumps(told), flush=True)  # noqa: T201
        done.set()

    world.create_queue_handler("__wkf_step_", body)
    async with world:
        print("ready", flush=True)  # noqa: T201
        await done.wait()


if __name__ == "__main__":
    asyncio.run(
        serve(
            create_world(sys.argv[1], lock_duration_ms=LEASE_MS, poll_interval_ms=20),
            sys.argv[2],
            Path(sys.argv[3]),
        )
    )
