"""The other process of ``across``: sends a message, writes a chunk or ends a run when told to.

Says ``ready``; then each line ``go`` is one write, and at ``end`` it says when each began, as a
JSON list. The clock is CLOCK_MONOTONIC, which all processes of a Linux machine share.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .beside import heard, serve, tell
from .stores import opened
from .world_level import CHUNK


async def work(job: dict[str, Any]) -> None:
    times = list[float]()
    async with opened(job["contender"], Path(job["directory"])) as store:
        tell("ready")
        while await heard() == "go":
            times.append(time.perf_counter())
            if job["what"] == "message":
                await store.enqueue(len(times))
            elif job["what"] == "chunk":
                await store.write_chunks(*job["about"], [CHUNK])
            else:
                await store.complete_run(job["about"][len(times) - 1])
        tell(json.dumps(times))


if __name__ == "__main__":
    serve(work)
