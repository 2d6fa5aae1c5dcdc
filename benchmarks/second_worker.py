"""A second worker process on the same file: says ``ready``, then ``ended`` for each run it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .beside import heard, serve, tell
from .sdk_level import serving, settle, watch_ends


async def work(job: dict[str, Any]) -> None:
    async with serving(job["contender"], Path(job["directory"])) as world:
        watch_ends(world, lambda: tell("ended"))
        settle()
        tell("ready")
        while await heard() is not None:
            pass


if __name__ == "__main__":
    serve(work)
