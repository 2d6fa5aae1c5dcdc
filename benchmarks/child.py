"""One measurement in a process of its own: a job as JSON on stdin, figures as JSON on stdout.

Job: ``{"contender", "workloads": [...], "sizes": {...}, "directory", "prepared",
"server"}``. Result:
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
    contender: str,
    workloads: Sequence[str],
    sizes: Sizes,
    directory: Path,
    prepared: Path | None = None,
    server: str | None = None,
) -> dict[str, Figures]:
    """Every workload in a directory of its own; those of the SDK share one World.

    ``prepared`` is a database to begin with; each directory gets a copy. ``server`` is the URL of
    one where each directory gets a database.
    """
    world = [name for name in workloads if BY_NAME[name].flow is None]
    sdk = [name for name in workloads if BY_NAME[name].flow is not None]
    found = {
        name: _world_level(contender, name, sizes, _fresh(directory, name, prepared, server))
        for name in world
    }
    if sdk:
        found |= asyncio.run(
            _sdk_level(contender, sdk, sizes, _fresh(directory, "sdk", prepared, server))
        )
    return found


def _world_level(contender: str, workload: str, sizes: Sizes, directory: Path) -> Figures:
    if contender == "raw":
        from . import raw

        return raw.run(workload, sizes, directory)
    if contender == "statements":
        from . import statements

        return asyncio.run(statements.run(workload, sizes, directory))
    if contender == "raw-pg":
        from . import raw_postgres

        return raw_postgres.run(workload, sizes, directory)
    if contender == "pgqueuer":
        from . import peer_pgqueuer

        return asyncio.run(peer_pgqueuer.run(workload, sizes, directory))
    if contender == "httpx":
        from . import peer_httpx

        return asyncio.run(peer_httpx.run(sizes))
    if contender.startswith("huey"):
        from . import peer_huey

        return peer_huey.run(sizes, directory, fsync=contender == "huey-full")
    return asyncio.run(_of_a_world(contender, workload, sizes, directory))


async def _of_a_world(contender: str, workload: str, sizes: Sizes, directory: Path) -> Figures:
    from .special import SPECIAL
    from .stores import opened
    from .world_level import WORLD_LEVEL

    if workload in SPECIAL:
        return await SPECIAL[workload](contender, sizes, directory)
    async with opened(contender, directory) as store:
        return await WORLD_LEVEL[workload](store, sizes)


async def _sdk_level(
    contender: str, workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, Figures]:
    if contender.startswith("dbos"):
        from . import peer_dbos

        return await peer_dbos.run(workloads, sizes, directory)
    if contender in ("floor-statements", "recorded"):
        from . import limit

        execute = limit.record if contender == limit.RECORDED else limit.run
        return await execute(workloads, sizes, directory)
    from . import sdk_level

    return await sdk_level.run(contender, workloads, sizes, directory)


def _fresh(directory: Path, name: str, prepared: Path | None, server: str | None) -> Path:
    made = directory / name
    made.mkdir()
    if prepared is not None:
        from .filled import copy_into

        copy_into(made, prepared)
    if server is not None:
        from .servers import settle

        settle(made, server)
    return made


def main() -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    job = json.load(sys.stdin)
    prepared = None if job["prepared"] is None else Path(job["prepared"])
    found = run(
        job["contender"],
        job["workloads"],
        Sizes(**job["sizes"]),
        Path(job["directory"]),
        prepared,
        job["server"],
    )
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
