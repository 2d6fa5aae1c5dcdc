"""One measurement in a process of its own: a job as JSON on stdin, figures as JSON on stdout.

Job: ``{"contender", "workloads": [...], "sizes": {...}, "directory"}``. Result:
``{workload: {measure: value}}`` in the last line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .plan import BY_NAME, Sizes

Figures = dict[str, float]


def run(
    contender: str, workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, Figures]:
    """Every workload in a directory of its own; those of the SDK share one World."""
    world = [name for name in workloads if BY_NAME[name].level == "world"]
    sdk = [name for name in workloads if BY_NAME[name].level == "sdk"]
    found = {name: _world_level(contender, name, sizes, _fresh(directory, name)) for name in world}
    if sdk:
        found |= asyncio.run(_sdk_level(contender, sdk, sizes, _fresh(directory, "sdk")))
    return found


def _world_level(contender: str, workload: str, sizes: Sizes, directory: Path) -> Figures:
    if contender == "raw":
        from . import raw

        return raw.run(workload, sizes, directory)
    if contender.startswith("huey"):
        from . import peer_huey

        return peer_huey.run(sizes, directory, fsync=contender == "huey-full")
    return asyncio.run(_on_store(contender, workload, sizes, directory))


async def _on_store(contender: str, workload: str, sizes: Sizes, directory: Path) -> Figures:
    from .stores import STORES
    from .world_level import WORLD_LEVEL

    store = STORES[contender](directory)
    await store.open()
    try:
        return await WORLD_LEVEL[workload](store, sizes)
    finally:
        await store.close()


async def _sdk_level(
    contender: str, workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, Figures]:
    if contender == "dbos":
        from . import peer_dbos

        return await peer_dbos.run(workloads, sizes, directory)
    from . import sdk_level

    return await sdk_level.run(contender, workloads, sizes, directory)


def _fresh(directory: Path, name: str) -> Path:
    made = directory / name
    made.mkdir()
    return made


def main() -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    job = json.load(sys.stdin)
    found = run(job["contender"], job["workloads"], Sizes(**job["sizes"]), Path(job["directory"]))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
